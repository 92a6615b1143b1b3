"""Every address of the project."""

from django.contrib import admin
from django.urls import path
from rpc4django.views import serve_rpc_request

from demo import views
from notes import views as notes

urlpatterns = [
    path("", notes.guestbook, name="guestbook"),
    path("statistics/", notes.statistics, name="statistics"),
    path("admin/", admin.site.urls),
    path("RPC2", serve_rpc_request, name="rpc"),  # csrf_exempt: it authenticates nobody by cookie
    path("healthz", views.healthz, name="healthz"),
    path("-/serving", views.serving, name="serving"),
    path("-/version", views.version, name="version"),
    path("-/request", views.request_seen, name="request"),
]

handler500 = views.server_error
