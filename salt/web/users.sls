# The accounts that the apps run as. They come before the firewall, which knows them by number.
{% for app, settings in pillar['apps'].items() %}
user of {{ app }}:
  account.service:
    - name: {{ settings['user'] | json }}
{% endfor %}
