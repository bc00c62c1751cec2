# Read by backup.sh and restore.sh: the bucket of team.env as the remote "store" of rclone.
export RCLONE_CONFIG=/dev/null RCLONE_CONFIG_STORE_TYPE=s3 RCLONE_CONFIG_STORE_PROVIDER=Other \
  RCLONE_CONFIG_STORE_ENV_AUTH=true RCLONE_CONFIG_STORE_ENDPOINT="${MLFLOW_S3_ENDPOINT_URL:-}"
# Debian's rclone stops at the variable by which botocore finds certificates.
if [ -n "${AWS_CA_BUNDLE:-}" ]; then
  export RCLONE_CA_CERT="$AWS_CA_BUNDLE"
  unset AWS_CA_BUNDLE
fi
