#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

// Inside worker/comm: hands one open file to other processes of this user on this host, over a socket whose name is in
// no file system (unix(7), abstract). Names are those of the network namespace.
namespace lockstep {

class FdServer {
 public:
  // AlreadyExists: the name is taken.
  static absl::StatusOr<FdServer> Listen(const std::string& name);
  FdServer(FdServer&& other) noexcept : socket_(other.socket_) { other.socket_ = -1; }
  FdServer& operator=(FdServer&&) = delete;
  ~FdServer();

  // Gives each of the clients 1 … `clients` the file `fd`, or, if `outcome` is an error, that. Clients of another user
  // are turned away. DeadlineExceeded: some have not come, or have gone again; `missing` gets each one's number.
  absl::Status Serve(int clients, int fd, const absl::Status& outcome, absl::Time deadline, std::vector<int>* missing);

 private:
  explicit FdServer(int socket) : socket_(socket) {}
  int socket_;
};

// As client `number`: waits for the server to be there. The caller owns the file; or it is the server's error.
absl::StatusOr<int> ReceiveFd(const std::string& name, int number, absl::Time deadline);

}  // namespace lockstep
