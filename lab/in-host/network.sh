# shellcheck shell=sh
# The host's side of the guests' networks. Sourced by the host's init, if a case has one.
#   The tap lab0: the host is 10.9.0.1, and the guest makes itself 10.9.0.2.
#   Port 80 gives the file `bulk` and its checksum; port 9000 answers what it gets with the checksum of that.
ip link set lo up
tunctl -t lab0 >/dev/null
ip addr add 10.9.0.1/24 dev lab0
ip link set lab0 up
# passt takes the address of the host's default route for its guest; for the guest, this gateway is the host's loopback.
ip route add default via 10.9.0.2 dev lab0
mkdir -p /lab/www
dd if=/dev/urandom of=/lab/www/bulk bs=64k count=128 2>/dev/null
(cd /lab/www && md5sum bulk >sums)
httpd -h /lab/www
# In a shell of its own: a case waits for the jobs of this one.
(nc -ll -p 9000 -e /bin/md5sum &)
