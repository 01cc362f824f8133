"""What does SAM gain over SGD, and does the gain grow?"""
