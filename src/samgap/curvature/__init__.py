"""Curvature of a trained net: eigenvalues and trace of its Hessian, and how much Hessians differ between examples."""
