"""Is the loss flatter where SAM ends?"""
