#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "coordinator/service/server.h"

namespace lockstep {
namespace {

// errno of the attempt; 0: it can be bound.
int TryToBind(const addrinfo& address) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const int error = bind(fd, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  close(fd);
  return error;
}

}  // namespace

absl::Status CheckListen(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  absl::string_view host = absl::string_view(listen).substr(0, colon == std::string::npos ? listen.size() : colon);
  const absl::string_view port = colon == std::string::npos ? "" : absl::string_view(listen).substr(colon + 1);
  int number = -1;
  const bool digits = !port.empty() && absl::c_all_of(port, absl::ascii_isdigit);
  if (host.empty() || !digits || !absl::SimpleAtoi(port, &number) || number > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(
        listen, ": not an address to listen on; give host:port with a port from 0 (any that is free) to 65535, as ",
        "127.0.0.1:0"));
  }
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  addrinfo hints = {}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  if (const int error = getaddrinfo(std::string(host).c_str(), std::string(port).c_str(), &hints, &found); error != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(listen, ": ", gai_strerror(error), "; give an address or a name of this machine"));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  int error = 0;
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    error = TryToBind(*address);
    if (error == 0) return absl::OkStatus();
  }
  const char* what = error == EADDRNOTAVAIL ? "is no address of this machine; give one that is, or 0.0.0.0 for all"
                     : error == EADDRINUSE ? "is taken by another process; give another port, or 0 for any that is free"
                                           : strerror(error);
  return absl::FailedPreconditionError(absl::StrCat(listen, ": ", what));
}

}  // namespace lockstep
