"""Curvature of a trained net: eigenvalues and trace of its Hessian, differences between examples, loss surfaces."""
