{#- Takes orders from the fleet's master. bin/bootstrap minion writes the same files, so the first apply finds them right. #}
include:
  - minion.config
  - minion.service
