"""The loss around a trained net."""
