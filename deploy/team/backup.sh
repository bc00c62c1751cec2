#!/bin/sh
# Copies runs, users and artifacts of the team's server into a new folder: backup.sh FOLDER
# The server goes on meanwhile. The database comes first, then files, the manifests of records, and
# the files that came since: so everything that a copy names is in it. docs/team-server.md says why.
set -eu
folder=${1:?"name a new folder for the backup"}
umask 077 # hashes of passwords are in it
mkdir -p "$(dirname "$folder")"
mkdir "$folder"
. "$(dirname "$0")/bucket.sh"
pg_dump --format=custom --file="$folder/database.dump" mlflow
rclone copy --quiet --exclude '**/manifest.json' store:mlflow "$folder/bucket"
rclone copy --quiet --include '**/manifest.json' store:mlflow "$folder/bucket"
rclone copy --quiet --exclude '**/manifest.json' store:mlflow "$folder/bucket"
(cd "$folder" && find database.dump bucket -type f -exec sha256sum {} +) > "$folder.partial"
mv "$folder.partial" "$folder/SHA256SUMS" # written last: a backup without it is not whole
echo "$(wc -l < "$folder/SHA256SUMS") files in $folder"
