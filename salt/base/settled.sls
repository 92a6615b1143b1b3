# Alone, it is what orch.settle applies: it changes nothing but what is not granted any more.
what nobody needs any more:
  needs.settled:
    - order: last
