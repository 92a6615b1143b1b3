"""Reads a site directory into checked models, or says everything that is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from . import redisclients, sessions
from .apps import App
from .document import Document, read_document
from .errors import Problem, SiteError, nearest
from .explain import describe, explain
from .fleet import Fleet
from .kinds import AppName
from .layout import DEFAULTS, REPOSITORY
from .model import Model
from .roles import MODELS, ROLES, Settings
from .rules import Files, check
from .site import Site


def load_site(path: str | Path, defaults: Path = DEFAULTS, repository: Path = REPOSITORY) -> Site:
    """Read and check a site: fleet.yaml, apps/*.yaml and settings.yaml. Secrets are checked for each host apart.

    Args:
        path: the site directory; messages show it as it is given.
        defaults: the directory with the roles' default settings, <role>.sls.
        repository: where relative source directories count from.

    Raises:
        SiteError: every error of all files.

    Example:
        >>> load_site("lab/fleets/single").fleet.hosts["app1"].address
        '10.77.0.11'
    """
    path = Path(path)
    problems: list[Problem] = []
    if not path.is_dir():
        raise SiteError(
            [Problem(str(path), 0, "", "the site directory does not exist; lab/fleets/single is an example")]
        )
    problems += _misnamed(path)
    settings_path = path / "settings.yaml"
    settings_file = read_document(settings_path) if settings_path.exists() else Document(str(settings_path))
    files = Files(read_document(path / "fleet.yaml"), settings_file, repository)
    fleet: Fleet | None = _validated(Fleet, files.fleet, problems)
    files.fleet_is_valid = fleet is not None
    apps = _read_apps(path / "apps", files, problems)
    settings: dict[str, Any] = _read_settings(defaults, files, problems)
    problems += check(files)
    if problems or fleet is None:
        raise SiteError(problems)
    site = Site(path, fleet, apps, Settings(**settings))
    too_much = [sessions.refusal(site, settings_file), redisclients.refusal(site, settings_file)]
    if any(too_much):
        raise SiteError(filter(None, too_much))
    return site


def _misnamed(path: Path) -> Iterable[Problem]:
    """Yield a problem for each file that would be passed over in silence."""
    allowed = ("fleet.yaml", "settings.yaml")
    for file in sorted(path.iterdir()):
        if file.suffix in (".yaml", ".yml") and file.name not in allowed:
            yield Problem(str(file), 0, "", f"unknown file; {nearest(file.name, allowed)}, apps/<app>.yaml")
    for file in sorted((path / "apps").glob("*.yml")):
        yield Problem(str(file), 0, "", f"is not read; call it {file.stem}.yaml")


def _validated(model: type[Model], document: Document, problems: list[Problem]) -> Any:
    """Return the document as a model, or None with the reasons added to problems."""
    problems += document.problems
    if document.data is None and document.problems:
        return None
    if not isinstance(document.data, dict):
        what = "is empty" if document.data is None else "is not a mapping"
        problems.append(document.problem((), f"{what}; allowed: the keys {', '.join(model.model_fields)}"))
        return None
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        problems += explain(error, model, document)
        return None


def _read_apps(folder: Path, files: Files, problems: list[Problem]) -> dict[str, App]:
    apps = {}
    for path in sorted(folder.glob("*.yaml")):
        name, document = path.stem, read_document(path)
        files.apps[name] = document
        try:
            TypeAdapter(AppName).validate_python(name)
        except ValidationError:
            text = f"the file's name is the app's name, and \"{name}\" is none; allowed: {describe(AppName)}"
            problems.append(Problem(str(path), 0, "", text))
        app: App | None = _validated(App, document, problems)
        if app:
            apps[name] = app.filled(name)
    return apps


def _read_settings(defaults: Path, files: Files, problems: list[Problem]) -> dict[str, Model]:
    document = files.settings
    problems += document.problems
    if document.data is not None and not isinstance(document.data, dict):
        problems.append(document.problem((), f"is not a mapping; allowed: the roles {', '.join(ROLES)}"))
    unknown = [name for name in document.names() if name not in MODELS]
    problems += [document.problem((name,), f"unknown role; {nearest(str(name), ROLES)}") for name in unknown]
    found = {role: _role_settings(role, defaults, files, problems) for role in MODELS}
    return {role: settings for role, settings in found.items() if settings}


def _role_settings(role: str, defaults: Path, files: Files, problems: list[Problem]) -> Model | None:
    model, default_file = MODELS[role], read_document(defaults / f"{role}.sls")
    problems += default_file.problems
    chosen = files.settings.at(role)
    if role in files.settings.names() and not isinstance(chosen, dict):
        text = f"is not a mapping; allowed: the keys {', '.join(model.model_fields)}"
        problems.append(files.settings.problem((role,), text))
        return None
    files.merged[role] = merged(default_file.at(role) or {}, chosen or {})
    try:
        return model.model_validate(files.merged[role])
    except ValidationError as error:
        for problem in explain(error, model, files.settings, [role]):
            # What is missing from the defaults is not to be looked for in the site.
            problems.append(problem if problem.line else replace(problem, file=default_file.file))
        return None


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another as Salt lays pillar over pillar: mappings by key, all else replaced.

    Example:
        >>> merged({"a": {"x": 1, "y": 2}, "l": [1]}, {"a": {"y": 3}, "l": [2]})
        {'a': {'x': 1, 'y': 3}, 'l': [2]}
    """
    result = copy.deepcopy(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result
