from typing import Any

from django import forms

from notes.models import Note
from words.tasks import count_soon


class NoteForm(forms.ModelForm):
    """The rules for a new note, for browsers and RPC clients alike."""

    class Meta:
        model = Note
        fields = ["author", "text"]
        labels = {"author": "Your name", "text": "Your note"}
        widgets = {
            "author": forms.TextInput(attrs={"autocomplete": "name"}),
            "text": forms.Textarea(attrs={"rows": 4}),
        }
        error_messages = {
            "author": {"required": "Please tell us your name."},
            "text": {"required": "Please write something first."},
        }

    def save(self, *args: Any, **kwargs: Any) -> Note:
        note = super().save(*args, **kwargs)
        count_soon(note.pk)
        return note
