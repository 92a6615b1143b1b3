from django import forms

from notes.models import Note


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
