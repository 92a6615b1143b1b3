"""What salt-call is like when it renders as salt-ssh does: the functions that an SLS calls have no pillar.

Over ssh they run on the host, by a salt-call that was given none. The SLS itself and the states have it.
"""

from typing import Any

import salt.loader
import salt.state


def begin() -> None:
    """From here on this process renders so."""
    usual = salt.state.State.load_modules

    def load_modules(self: Any, *args: Any, **kwargs: Any) -> None:
        usual(self, *args, **kwargs)
        opts = {**self.opts, "pillar": {}}
        functions = salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))
        self.rend = salt.loader.render(self.opts, functions, states=self.states, context=self.state_con)

    salt.state.State.load_modules = load_modules
