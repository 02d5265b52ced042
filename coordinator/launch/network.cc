#include "coordinator/launch/network.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "coordinator/supervise/process.h"

namespace lockstep {
namespace {

constexpr char kLoopback[] = "127.0.0.1";
constexpr int kSomePort = 9;  // nothing is sent to it

std::string TextOf(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "";
  const void* const bytes = address->sa_family == AF_INET
                                ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(address)->sin_addr)
                                : &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  return inet_ntop(address->sa_family, bytes, text, sizeof(text)) == nullptr ? "" : text;
}

// The bytes of an address; empty: of another family.
std::vector<unsigned char> BytesOf(const sockaddr* address) {
  const auto bytes = [](const void* from, size_t count) {
    const auto* const begin = static_cast<const unsigned char*>(from);
    return std::vector<unsigned char>(begin, begin + count);
  };
  if (address->sa_family == AF_INET) return bytes(&reinterpret_cast<const sockaddr_in*>(address)->sin_addr, 4);
  if (address->sa_family == AF_INET6) return bytes(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, 16);
  return {};
}

std::string NetworkText(const sockaddr* address, const sockaddr* mask) {
  std::vector<unsigned char> bytes = BytesOf(address);
  const std::vector<unsigned char> ones = BytesOf(mask);
  int bits = 0;
  for (size_t i = 0; i < bytes.size() && i < ones.size(); ++i) {
    bytes[i] &= ones[i];
    bits += __builtin_popcount(ones[i]);
  }
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(address->sa_family, bytes.data(), text, sizeof(text));
  return absl::StrCat(text, "/", bits);
}

// Whether `address` is in the network that `text` writes as NetworkText does.
bool IsIn(const sockaddr* address, const std::string& text) {
  const size_t slash = text.find('/');
  if (slash == std::string::npos) return false;
  int bits = std::atoi(text.c_str() + slash + 1);
  std::array<unsigned char, 16> network = {};
  if (inet_pton(address->sa_family, text.substr(0, slash).c_str(), network.data()) != 1) return false;
  const std::vector<unsigned char> own = BytesOf(address);
  for (size_t i = 0; i < own.size() && bits > 0; ++i, bits -= 8) {
    const unsigned char mask = bits >= 8 ? 0xff : static_cast<unsigned char>(0xff << (8 - bits));
    if ((own[i] & mask) != network[i]) return false;
  }
  return true;
}

bool IsIn(const std::string& address, const std::string& network) {
  sockaddr_in one{};
  one.sin_family = AF_INET;
  return inet_pton(AF_INET, address.c_str(), &one.sin_addr) == 1 &&
         IsIn(reinterpret_cast<const sockaddr*>(&one), network);
}

// As a network of Open MPI's. 4.1 takes the mask of /32 for that of /0, and with it every interface.
std::string AloneText(const std::string& address) { return absl::StrCat(address, "/31"); }

using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

// Where packets to `to` would come from; empty: there is no way.
std::string SourceFor(const addrinfo& to) {
  const UniqueFd fd(socket(to.ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0 || connect(fd.get(), to.ai_addr, to.ai_addrlen) != 0) return "";
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &size) != 0) return "";
  return TextOf(reinterpret_cast<const sockaddr*>(&own));
}

}  // namespace

absl::StatusOr<std::vector<LocalAddress>> LocalAddresses() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return ErrnoStatus(errno, "this machine's interfaces");
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, freeifaddrs);
  std::vector<LocalAddress> local;
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_netmask == nullptr || (one->ifa_flags & IFF_UP) == 0) continue;
    if (BytesOf(one->ifa_addr).empty()) continue;
    local.push_back({one->ifa_name, TextOf(one->ifa_addr), NetworkText(one->ifa_addr, one->ifa_netmask),
                     (one->ifa_flags & IFF_LOOPBACK) != 0});
  }
  return local;
}

absl::StatusOr<Route> RouteTo(const std::string& host, const std::vector<LocalAddress>& local) {
  addrinfo hints = {}, *found = nullptr;
  hints.ai_family = AF_INET;  // which all of Open MPI's options take
  hints.ai_socktype = SOCK_DGRAM;
  if (const int error = getaddrinfo(host.c_str(), absl::StrCat(kSomePort).c_str(), &hints, &found); error != 0) {
    return absl::NotFoundError(
        absl::StrCat("host ", host, ": ", gai_strerror(error), "; write it as ssh knows it, or give its address"));
  }
  const Addresses addresses(found, freeaddrinfo);
  for (const addrinfo* to = found; to != nullptr; to = to->ai_next) {
    const std::string source = SourceFor(*to);
    const auto from =
        std::find_if(local.begin(), local.end(), [&](const LocalAddress& one) { return one.address == source; });
    if (from == local.end()) continue;
    Route route;
    route.address = TextOf(to->ai_addr);
    route.from = *from;
    // Debian gives a machine's own name 127.0.1.1, which no interface has.
    route.here = from->loopback || std::any_of(local.begin(), local.end(),
                                               [&](const LocalAddress& one) { return one.address == route.address; });
    route.neighbour = IsIn(to->ai_addr, from->network);
    return route;
  }
  return absl::UnavailableError(absl::StrCat("host ", host, ": this machine has no way to it"));
}

ClusterNetwork NetworkOf(const std::vector<Route>& routes) {
  ClusterNetwork cluster;
  cluster.listen = kLoopback;
  const auto add = [&](std::string network) {
    if (absl::EndsWith(network, "/32")) network = AloneText(network.substr(0, network.size() - 3));
    auto& all = cluster.networks;
    if (std::find(all.begin(), all.end(), network) == all.end()) all.push_back(network);
  };
  for (const Route& route : routes) {
    if (route.here) continue;
    if (!cluster.remote) cluster.listen = route.from.address;
    cluster.remote = true;
    add(route.from.network);
    if (!route.neighbour) add(AloneText(route.address));
  }
  return cluster;
}

void NarrowNetworks(const std::vector<std::string>& reached, const std::vector<std::vector<std::string>>& addresses,
                    ClusterNetwork* network) {
  std::vector<std::string> narrow;
  const auto add = [&narrow](const std::string& one) {
    if (std::find(narrow.begin(), narrow.end(), one) == narrow.end()) narrow.push_back(one);
  };
  for (const std::string& one : network->networks) {
    const auto in_it = [&one](const std::string& address) { return IsIn(address, one); };
    const bool several = std::any_of(addresses.begin(), addresses.end(), [&](const std::vector<std::string>& own) {
      return std::count_if(own.begin(), own.end(), in_it) > 1;
    });
    if (!several) {
      add(one);
      continue;
    }
    for (const std::string& address : reached) {
      if (in_it(address)) add(AloneText(address));
    }
  }
  network->networks = std::move(narrow);
}

}  // namespace lockstep
