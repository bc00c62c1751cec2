#!/bin/sh
# Brings a backup into an empty database and an empty bucket: restore.sh FOLDER
# Stop the server first, and start it afterwards. Artifacts come before the database that names them.
set -eu
folder=${1:?"name the folder of a backup"}
. "$(dirname "$0")/bucket.sh"
(cd "$folder" && sha256sum --check --quiet SHA256SUMS)
rclone copy --quiet --exclude '**/manifest.json' "$folder/bucket" store:mlflow
rclone copy --quiet --include '**/manifest.json' "$folder/bucket" store:mlflow
pg_restore --exit-on-error --single-transaction --no-owner --dbname=mlflow "$folder/database.dump"
echo "restored from $folder"
