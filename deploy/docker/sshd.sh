# Sourced: a host key and a configuration for an sshd of this user alone, in ~/sshd. Who may come in stands in ~/.ssh/authorized_keys.
mkdir -p ~/sshd
rm -f ~/sshd/host*
ssh-keygen -q -t ed25519 -N '' -C '' -f ~/sshd/host
# As many workers as there may be log in at once.
cat > ~/sshd/config <<END
Port 2222
HostKey $HOME/sshd/host
PidFile none
UsePAM no
# A health check that asks whether it answers is an error to it, once a second.
LogLevel FATAL
# Kubernetes mounts keys into a folder that all may write to; there is nobody else in a container.
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowTcpForwarding no
X11Forwarding no
MaxStartups 1000
END
