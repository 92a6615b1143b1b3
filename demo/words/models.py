from django.db import models

from notes.models import Note


class WordCount(models.Model):
    """What a worker has found out about a note."""

    note = models.OneToOneField(Note, models.CASCADE, primary_key=True, related_name="words")
    words = models.PositiveIntegerField(default=0)
    runs = models.PositiveIntegerField(default=0)  # more than one when the task was delivered again
    release = models.CharField(max_length=64, default="")
    host = models.CharField(max_length=255, default="")

    def __str__(self) -> str:
        return f"{self.words} words in note {self.note_id}"
