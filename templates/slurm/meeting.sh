# meet ID NUMBER: let torchrun's nodes meet at an address of the first node. Two meetings of one job have different
# NUMBERs, and so different ports.
meet() {
  local place address port
  place=$(meeting_place "$2") ||
    fail "node ${HOSTS[0]} has no address that the other nodes can reach, or no free port;" \
      "set slurm.interface or master_port"
  read -r address port <<<"$place"
  LAUNCH+=("--nnodes=${#HOSTS[@]}" --rdzv_backend=c10d "--rdzv_endpoint=$address:$port" "--rdzv_id=$1")
}

# meeting_place NUMBER: print an address of the first node that the other HOSTS can reach, and a free port of that node.
meeting_place() {
  local values
  local functions
  if [ "${HOSTS[0]}" = "$SLURMD_NODENAME" ]; then
    own_place "$1" "${HOSTS[1]:-}"
  else
    values=$(declare -p JOB_INTERFACE JOB_MASTER_PORT SLURM_JOB_ID)
    functions=$(declare -f own_place address_towards node_address meeting_port free_port)
    timeout --kill-after=5 60 srun --overlap "--nodelist=${HOSTS[0]}" --nodes=1 --ntasks=1 --mem=0 --gres=none \
      bash -c "$values; $functions; own_place $1 ${HOSTS[1]:-}"
  fi
}

# own_place NUMBER [OTHER_NODE]: print this node's address for connections with the other node, and a free port.
own_place() {
  local address=127.0.0.1
  local port
  if [ -n "${2:-}" ]; then address=$(address_towards "$2") || return 1; fi
  port=$(meeting_port "$1") || return 1
  echo "$address $port"
}

# address_towards NODE: print the address from which this node reaches another node. A node's name is not enough: on the
# node itself it may mean 127.0.1.1, and other nodes may not know it.
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

# node_address NODE: print the address at which Slurm reaches a node.
node_address() {
  local address
  address=$(scontrol show node --oneliner "$1" 2>/dev/null | grep -o ' NodeAddr=[^ ]*') || address="=$1"
  getent ahostsv4 "${address#*=}" | { read -r address _ && echo "$address"; }
}

# meeting_port NUMBER: print a free port. Linux gives the ports of a range to connections, and may do so before torchrun
# listens. So the port is outside that range, unless the user has chosen it.
meeting_port() {
  local low=32768 high=60999 first=20000 last=29999
  read -r low high </proc/sys/net/ipv4/ip_local_port_range || true
  if [ "$JOB_MASTER_PORT" -gt 0 ]; then
    first=$JOB_MASTER_PORT
    last=65535
    if [ "$first" -ge "$low" ] && [ "$first" -le "$high" ]; then
      echo "jobctl: master_port $first is in the range that Linux gives to connections here ($low to $high);" \
        "choose one outside it" >&2
    fi
    free_port "$first" "$last" "$1"
    return
  fi

  if [ "$low" -le "$last" ]; then
    # Use the larger of the two parts outside the range. Ports below 1024 are for root.
    first=1024
    last=$((low - 1))
    if [ "$((65535 - high))" -gt "$((low - 1024))" ]; then
      first=$((high + 1))
      last=65535
    fi
    if [ "$last" -lt "$((first + 100))" ]; then
      echo "jobctl: Linux gives almost all ports to connections here ($low to $high); choose one with master_port" >&2
      first=20000
      last=29999
    fi
  fi
  free_port "$first" "$last" "$((SLURM_JOB_ID + $1))"
}

# free_port FIRST LAST NUMBER: print a port from FIRST to LAST that no connection or server of this node uses. NUMBER
# sets where the search begins.
free_port() {
  local port tries count=$(($2 - $1 + 1))
  for ((tries = 0; tries < count; tries++)); do
    port=$(($1 + ($3 + tries) % count))
    if ! grep -qsE ": [0-9A-F]+:$(printf %04X "$port") " /proc/net/tcp /proc/net/tcp6; then
      echo "$port"
      return 0
    fi
  done
  return 1
}
