from typing import Any

from django.core.management.base import BaseCommand, CommandError

from demo.health import run_checks


class Command(BaseCommand):
    help = "Asks what /healthz asks, without a web server. Ends with 1 when something is wrong."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        results = run_checks()
        for name, result in results.items():
            if result["ok"]:
                self.stdout.write(f"{name:<12}ok       {result['ms']} ms")
            else:
                self.stdout.write(f"{name:<12}FAILING  {result['problem']}")
        if failing := [name for name, result in results.items() if not result["ok"]]:
            raise CommandError(f"failing: {', '.join(failing)}")
