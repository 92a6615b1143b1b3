{#- Gives all hosts of an app the release that they served before, at once, or none of them:
      salt-run state.orchestrate orch.rollback pillar='{"app": "demo"}'
    Nothing is built and no migration is undone: where one is in the way, it is named and nothing happens. #}
{%- from 'orch/together.jinja' import together with context %}
{{ together('builder.propose_back', 'fleet.take_back', asks=True) }}
