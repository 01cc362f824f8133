"""One drawing function a kind of figure."""
