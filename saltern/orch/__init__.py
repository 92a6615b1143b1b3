"""What an orchestration does: its steps, made from the fleet, what it was told, and what the hosts answer."""
