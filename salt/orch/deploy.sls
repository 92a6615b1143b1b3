{#- Gives all hosts of an app its newest source and settings at once, or none of them:
      salt-run state.orchestrate orch.deploy pillar='{"app": "demo"}'
    Until "in force", what served before runs on beside the new release; whatever fails before puts every host back. #}
{%- from 'orch/together.jinja' import together with context %}
{{ together('builder.propose', 'fleet.install', migrates=True) }}
