"""What is granted to apps and hosts because the site declares a need, and when it may go."""
