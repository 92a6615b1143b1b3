{#- What holds for passwords, should somebody be given one; sshd takes none. The files are whole: pam-auth-update, which
    packages call, leaves files alone that it did not write, so what it would add for a session is in ours. #}

# Without the dictionary every password would be refused.
packages for passwords:
  pkg.installed:
    - install_recommends: False
    - pkgs:
      - cracklib-runtime
      - libpam-pwquality

{%- set files = {
  '/etc/security/pwquality.conf': 'pwquality.conf',
  '/etc/security/faillock.conf': 'faillock.conf',
  '/etc/pam.d/common-account': 'common-account',
  '/etc/pam.d/common-auth': 'common-auth',
  '/etc/pam.d/common-password': 'common-password',
  '/etc/pam.d/common-session': 'common-session',
} %}
{%- for path, source in files.items() %}

{{ path }}:
  file.managed:
    - source: salt://base/files/{{ source }}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - pkg: packages for passwords
{%- endfor %}

# A password that root were given would have a year. Without a date of its last change it does not age, and it must not:
# with an old password no key would let root in either.
age of root's password:
  user.present:
    - name: root
    - maxdays: 365
    - date: -1
