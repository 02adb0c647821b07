# Ends what a run left: sh -c THIS reaper BASE ID MARK. Waits first until its standard input closes.
base=$1 id=$2 mark=$3 folder=$1/run-$2
cat >/dev/null

# Containers first: their engine would see killed processes as crashes.
if [ -e "$folder/engine" ] && command -v docker >/dev/null; then
  host=$(cat "$folder/engine")
  [ -z "$host" ] || export DOCKER_HOST="$host"
  timeout 30 docker ps -aq --filter "label=messaging-broker-run=$id" 2>/dev/null | xargs -r timeout 30 docker rm -fv >/dev/null 2>&1
fi

marked() { grep -lzxF "$mark" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }

# A process can be born while the others die: only two empty looks in a row count.
calm=0 round=0
while [ $calm -lt 2 ] && [ $round -lt 200 ]; do
  pids=$(marked)
  if [ -n "$pids" ]; then calm=0; kill -9 $pids 2>/dev/null; else calm=$((calm + 1)); fi
  round=$((round + 1))
  sleep 0.05
done

grep -lxF "$id" "$base"/ports/* 2>/dev/null | xargs -r rm -f
# Deepest first. There are none unless something mounted in this namespace, as a container engine does.
grep -F " $folder/" /proc/self/mounts | cut -d' ' -f2 | sort -r | xargs -r -n 1 umount -l
rm -rf "$folder"
# A container engine of the run was told to use this control group.
for group in /sys/fs/cgroup/messaging-$id /sys/fs/cgroup/*/messaging-$id; do
  [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
done
rmdir "$base/ports" "$base" 2>/dev/null
exit 0
