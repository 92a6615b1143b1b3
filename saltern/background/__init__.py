"""What an app runs beside its web processes: workers and timers."""
