from django.apps import AppConfig


class NotesConfig(AppConfig):
    name = "notes"

    def ready(self) -> None:
        from notes import rpc  # noqa: F401  (importing it registers the methods)
