# meet ID PORT: let torchrun's nodes find each other at an address of the first node.
meet() {
  local address=127.0.0.1 port
  if [ "${#HOSTS[@]}" -gt 1 ]; then
    address=$(first_address) || fail "${HOSTS[0]} has no address that the other nodes reach; set slurm.interface in the site file"
  fi
  port=$(free_port "$2")
  LAUNCH+=("--nnodes=${#HOSTS[@]}" --rdzv_backend=c10d "--rdzv_endpoint=$address:$port" "--rdzv_id=$1")
}

# first_address: print the address by which the others of HOSTS reach the first one.
first_address() {
  if [ "${HOSTS[0]}" = "$SLURMD_NODENAME" ]; then
    address_towards "${HOSTS[1]}"
  else
    timeout --kill-after=5 60 srun --overlap "--nodelist=${HOSTS[0]}" --nodes=1 --ntasks=1 --mem=0 --gres=none \
      bash -c "$(declare -p JOB_INTERFACE); $(declare -f address_towards node_address); address_towards ${HOSTS[1]}"
  fi
}

# address_towards NODE: print this node's own address on its way to another node. A node's name would not do: on itself it
# may mean 127.0.1.1, and elsewhere nothing.
address_towards() {
  local address="" other PATH=$PATH:/usr/sbin:/sbin
  if [ -n "$JOB_INTERFACE" ]; then
    address=$(ip -o -4 addr show dev "$JOB_INTERFACE" | grep -o 'inet [0-9.]*') || true
  else
    other=$(node_address "$1") || true
    address=$(ip -o -4 route get "$other" 2>/dev/null | grep -o 'src [0-9.]*') || address="any $(hostname -I)" || true
  fi
  read -r _ address _ <<<"$address" || true
  case $address in '' | 127.*) return 1 ;; esac
  echo "$address"
}

# node_address NODE: print the address by which Slurm reaches a node.
node_address() {
  local address
  address=$(scontrol show node --oneliner "$1" 2>/dev/null | grep -o ' NodeAddr=[^ ]*') || address="=$1"
  getent ahostsv4 "${address#*=}" | { read -r address _ && echo "$address"; }
}

# free_port PORT: print this port, or the next one on which nothing of this node listens or talks.
free_port() {
  local port=$1
  while grep -qsE ": [0-9A-F]+:$(printf %04X "$port") " /proc/net/tcp /proc/net/tcp6; do port=$((port + 1)); done
  echo "$port"
}
