#!/bin/sh
# Runs a command of a build with the builder's own settings, where it was given any as build secrets: none of them is
# needed, and none ends up in the image.
secrets=/run/secrets
[ ! -f $secrets/pip_conf ] || export PIP_CONFIG_FILE=$secrets/pip_conf
[ ! -f $secrets/npmrc ] || export NPM_CONFIG_USERCONFIG=$secrets/npmrc
[ ! -f $secrets/hf_token ] || HF_TOKEN=$(cat $secrets/hf_token) && export HF_TOKEN
if [ -f $secrets/ca_certificates ]; then
  export PIP_CERT=$secrets/ca_certificates NODE_EXTRA_CA_CERTS=$secrets/ca_certificates
  export REQUESTS_CA_BUNDLE=$secrets/ca_certificates SSL_CERT_FILE=$secrets/ca_certificates
fi
exec "$@"
