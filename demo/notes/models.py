from django.db import models


class Note(models.Model):
    """One entry in the guestbook."""

    author = models.CharField(max_length=60)
    text = models.TextField(max_length=500)
    created = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ["-created", "-pk"]

    def __str__(self) -> str:
        return f"{self.author}: {self.text[:40]}"
