"""Redis: its two servers, their files and users."""
