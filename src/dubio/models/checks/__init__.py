"""What is proven of a loaded model before any number is shown, and how it is told again later."""
