"""Migrations: which would hurt, and how they run beside a release that serves."""
