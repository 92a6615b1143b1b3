"""Salt's runner as on a master, without one: `python runner.py` renders each orchestration that it is asked for.

JSON in: {"repository": PATH, "site": PATH, "folder": PATH, "asked": [[name, pillar], ...]}; a list of what
`state.orchestrate_show_sls` said out. Hosts answer what stands in PLAYED.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jinja2
import salt.config
import salt.runner
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PLAYED = """
COURSE = {"kind": "tls", "state": "settled", "moves": ["both"], "applied": ["master"], "asked": [], "releases": []}
ANSWERS = {"code.digest": "other", "rotation.course": COURSE, "updates.reboot_due": "", "needs.held": {}}


def cmd(tgt, fun, arg=(), tgt_type="glob", kwarg=None):
    return {host: {"ret": ANSWERS.get(fun, []), "retcode": 0} for host in tgt}


def runner(name, tgt, tgt_type):
    return tgt


def is_running(fun):
    return []
"""


def settings(repository: str, site: str, folder: str) -> str:
    """Write the master's settings, as role master has them but for its user and its folders; return the file."""
    text = (REPOSITORY / "salt/master/files/master.conf").read_text()
    conf = yaml.safe_load(jinja2.Template(text).render(repository=repository, listen="127.0.0.1", workers=3))
    played = Path(folder, "played")
    played.mkdir()
    (played / "saltutil.py").write_text(PLAYED)
    for key in ("user", "pidfile", "sock_dir"):
        del conf[key]
    conf |= {"root_dir": f"{folder}/run", "ext_pillar": [{"saltern": {"site": site}}], "id": "m_master"}
    conf["module_dirs"] = [str(played), *conf["module_dirs"]]
    file = Path(folder, "master.conf")
    file.write_text(yaml.safe_dump(conf))
    return str(file)


def main() -> None:
    """Render all that is asked for."""
    told = json.load(sys.stdin)
    asked = told.pop("asked")
    options = salt.config.master_config(settings(**told))
    said = []
    for name, pillar in asked:
        client = salt.runner.RunnerClient(options)
        show = client.functions["state.orchestrate_show_sls"]
        (found,) = show(f"orch.{name}", pillar=pillar).values()
        said.append(found)
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
