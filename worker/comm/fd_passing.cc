#include "worker/comm/fd_passing.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/time/clock.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr size_t kMostWords = 1024;  // of an error

absl::Status Errno(const char* call) { return absl::ErrnoToStatus(errno, call); }

// What the server answers: a code of absl::StatusCode and the error's words; the file goes with it if the code is OK.
struct Answer {
  int32_t code = 0;
  char words[kMostWords] = "";
};

// Ends with its scope.
class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

absl::StatusOr<socklen_t> Address(const std::string& name, sockaddr_un* address) {
  std::memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  if (name.size() + 1 > sizeof(address->sun_path)) return absl::InvalidArgumentError("the window's name is too long");
  std::memcpy(address->sun_path + 1, name.data(), name.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

// True: there is something to read. False: the deadline has passed.
absl::StatusOr<bool> AwaitInput(int fd, absl::Time deadline) {
  while (true) {
    const absl::Duration left = std::max(absl::ZeroDuration(), deadline - absl::Now());
    pollfd entry = {fd, POLLIN, 0};
    const int ready = poll(&entry, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return Errno("poll");
    if (absl::Now() >= deadline) return false;
  }
}

bool OfThisUser(int fd) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

// UNAVAILABLE: who asked has gone.
absl::Status SendAnswer(int socket, int fd, const absl::Status& outcome) {
  Answer answer;
  answer.code = static_cast<int32_t>(outcome.code());
  const size_t words = std::min(outcome.message().size(), kMostWords - 1);
  if (words > 0) std::memcpy(answer.words, outcome.message().data(), words);  // no message has no address either
  iovec data = {&answer, sizeof(answer)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (outcome.ok()) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(int));
  }
  if (sendmsg(socket, &message, MSG_NOSIGNAL) == sizeof(answer)) return absl::OkStatus();
  const bool gone = errno == EPIPE || errno == ECONNRESET;
  return gone ? absl::UnavailableError("the rank that asked has gone") : Errno("sendmsg");
}

absl::StatusOr<int> ReceiveAnswer(int socket) {
  Answer answer;
  iovec data = {&answer, sizeof(answer)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL);
  if (got < 0) return Errno("recvmsg");
  if (got != sizeof(answer)) return absl::UnavailableError("the host's first rank has gone");
  answer.words[kMostWords - 1] = '\0';
  if (answer.code != 0) return absl::Status(static_cast<absl::StatusCode>(answer.code), answer.words);
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return absl::InternalError("the answer holds no file");
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof(int));
  return fd;
}

}  // namespace

absl::StatusOr<FdServer> FdServer::Listen(const std::string& name) {
  Socket socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (socket.fd() < 0) return Errno("socket");
  sockaddr_un address;
  ASSIGN_OR_RETURN(const socklen_t size, Address(name, &address));
  if (bind(socket.fd(), reinterpret_cast<sockaddr*>(&address), size) != 0) return Errno("bind");
  if (listen(socket.fd(), SOMAXCONN) != 0) return Errno("listen");
  return FdServer(socket.Release());
}

FdServer::~FdServer() {
  if (socket_ >= 0) close(socket_);
}

absl::Status FdServer::Serve(int clients, int fd, const absl::Status& outcome, absl::Time deadline,
                             std::vector<int>* missing) {
  std::vector<bool> served(clients + 1, false);
  for (int left = clients; left > 0;) {
    ASSIGN_OR_RETURN(const bool ready, AwaitInput(socket_, deadline));
    if (!ready) break;
    Socket client(accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC));
    if (client.fd() < 0 || !OfThisUser(client.fd())) continue;
    ASSIGN_OR_RETURN(const bool said, AwaitInput(client.fd(), deadline));
    int32_t number = 0;
    if (!said || recv(client.fd(), &number, sizeof(number), 0) != sizeof(number)) continue;
    if (number < 1 || number > clients || served[number]) continue;
    const absl::Status sent = SendAnswer(client.fd(), fd, outcome);
    if (absl::IsUnavailable(sent)) continue;
    RETURN_IF_ERROR(sent);
    served[number] = true;
    --left;
  }
  for (int number = 1; number <= clients; ++number) {
    if (!served[number]) missing->push_back(number);
  }
  return missing->empty() ? absl::OkStatus() : absl::DeadlineExceededError("not all ranks of the host have come");
}

absl::StatusOr<int> ReceiveFd(const std::string& name, int number, absl::Time deadline) {
  sockaddr_un address;
  ASSIGN_OR_RETURN(const socklen_t size, Address(name, &address));
  while (true) {
    Socket socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (socket.fd() < 0) return Errno("socket");
    if (connect(socket.fd(), reinterpret_cast<sockaddr*>(&address), size) == 0) {
      const int32_t own = number;
      if (send(socket.fd(), &own, sizeof(own), MSG_NOSIGNAL) != sizeof(own)) return Errno("send");
      ASSIGN_OR_RETURN(const bool ready, AwaitInput(socket.fd(), deadline));
      if (!ready) return absl::DeadlineExceededError("the host's first rank does not answer");
      return ReceiveAnswer(socket.fd());
    }
    if (errno != ECONNREFUSED && errno != EINTR && errno != EAGAIN) return Errno("connect");
    if (absl::Now() >= deadline) return absl::DeadlineExceededError("the host's first rank has not come");
    absl::SleepFor(absl::Milliseconds(1));
  }
}

}  // namespace lockstep
