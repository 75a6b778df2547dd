#!/bin/sh
# Make the secrets that compose.yaml mounts, in deploy/secrets or the folder given. What is there already stays.
set -eu
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"

keep() { # name, value: the containers' user reads the file, nobody else gets into the folder
    [ -e "$folder/$1" ] || { printf '%s' "$2" >"$folder/$1" && chmod 444 "$folder/$1"; }
}

keep postgres_password "$(openssl rand -hex 24)"
keep database_url "postgresql://bursar:$(cat "$folder/postgres_password")@postgres:5432/bursar"
keep secret_key "$(openssl rand -base64 48 | tr -d '\n')"
keep api_key_pepper "$(openssl rand -base64 32)"
keep encryption_keys "$(openssl rand -base64 32)"
keep metrics_token "$(openssl rand -hex 24)"
keep email_url ""
echo "Secrets are in $folder. Keep copies apart from the database's backup."
