from django.contrib import admin

from notes.models import Note


@admin.register(Note)
class NoteAdmin(admin.ModelAdmin):
    list_display = ["author", "text", "created"]
    search_fields = ["author", "text"]
    date_hierarchy = "created"
    readonly_fields = ["created"]
