#include "coordinator/launch/link_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/supervise/process.h"
#include "coordinator/supervise/token.h"

namespace lockstep {
namespace {

constexpr unsigned kLongest = 60;  // seconds
constexpr int kPings = 20;
constexpr absl::Duration kStart = absl::Seconds(15), kConnect = absl::Seconds(2), kSlack = absl::Seconds(12);
constexpr double kShortest = 0.05, kSend = 0.3;  // seconds of sending, by pair
constexpr double kSlowSend = 1.5;                // of a link on which so little came in that time
constexpr int64_t kLittle = 64 << 10;
constexpr double kDoubtful = 0.7;  // of the best link's rate
constexpr size_t kPiece = 128 << 10;
constexpr char kPing = 'p', kSendWord = 's';

double Now() { return UnixSeconds(absl::Now()); }

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

absl::StatusOr<Address> AddressOf(const std::string& text, int port) {
  Address address;
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    address.size = sizeof(*v4);
  } else if (inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    address.size = sizeof(*v6);
  } else {
    return absl::InvalidArgumentError(absl::StrCat(text, ": is no address"));
  }
  return address;
}

void NoDelay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  const timeval longest = {10, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof(longest));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &longest, sizeof(longest));
}

bool ReadAll(int fd, void* to, size_t bytes) {
  for (size_t got = 0; got < bytes;) {
    const ssize_t n = recv(fd, static_cast<char*>(to) + got, bytes - got, 0);
    if (n <= 0) return false;
    got += static_cast<size_t>(n);
  }
  return true;
}
bool WriteAll(int fd, const void* from, size_t bytes) {
  return send(fd, from, bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes);
}

// --- the end that is called

void AnswerPings(int fd) {
  for (char byte = 0; ReadAll(fd, &byte, 1);) {
    const double now = Now();
    if (!WriteAll(fd, &now, sizeof(now))) return;
  }
}

// For the time that the caller tells; says how many bytes a second came after the first third of it. What is still on
// its way then nobody waits for: on a slow link that would take many times as long.
void TakeBytes(int fd) {
  double seconds = 0;
  if (!ReadAll(fd, &seconds, sizeof(seconds))) return;
  std::string piece(kPiece, '\0');
  const int64_t start = MonotonicNanos();
  const auto passed = [start] { return 1e-9 * static_cast<double>(MonotonicNanos() - start); };
  double since = 0, last = 0;
  int64_t bytes = 0;
  while (passed() < seconds || (bytes < kLittle && passed() < kSlowSend)) {
    pollfd one = {fd, POLLIN, 0};
    if (poll(&one, 1, 1) == 0) continue;
    const ssize_t n = recv(fd, piece.data(), piece.size(), 0);
    if (n <= 0) break;
    last = passed();
    if (since == 0) {
      if (last > seconds / 3) since = last;
    } else {
      bytes += n;
    }
  }
  const double rate = last > since && since > 0 ? static_cast<double>(bytes) / (last - since) : 0;
  WriteAll(fd, &rate, sizeof(rate));
  while (recv(fd, piece.data(), piece.size(), 0) > 0) {  // or the caller would lose the answer
  }
}

// Only those who know `word`.
void Answer(UniqueFd fd, const std::string& word) {
  NoDelay(fd.get());
  std::string said(word.size(), '\0');
  char what = 0;
  if (!ReadAll(fd.get(), said.data(), said.size()) || said != word || !ReadAll(fd.get(), &what, 1)) return;
  if (what == kPing) AnswerPings(fd.get());
  if (what == kSendWord) TakeBytes(fd.get());
}

// --- the end that calls

absl::StatusOr<UniqueFd> Dial(const std::string& text, int port, const std::string& word) {
  ASSIGN_OR_RETURN(const Address address, AddressOf(text, port));
  UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return ErrnoStatus(errno, "a socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) != 0 &&
      errno != EINPROGRESS) {
    return absl::UnavailableError(strerror(errno));
  }
  pollfd one = {fd.get(), POLLOUT, 0};
  if (poll(&one, 1, static_cast<int>(absl::ToInt64Milliseconds(kConnect))) == 0) {
    return absl::UnavailableError("no answer");
  }
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return absl::UnavailableError(strerror(error));
  fcntl(fd.get(), F_SETFL, 0);
  NoDelay(fd.get());
  if (!WriteAll(fd.get(), word.data(), word.size())) return absl::UnavailableError("the connection broke");
  return fd;
}

absl::StatusOr<std::string> Ping(const std::string& address, int port, const std::string& word, int count) {
  ASSIGN_OR_RETURN(const UniqueFd fd, Dial(address, port, word));
  double least = INFINITY, offset = 0;
  char byte = kPing;
  if (!WriteAll(fd.get(), &byte, 1)) return absl::UnavailableError("the connection broke");
  for (int i = 0; i < count; ++i) {
    double theirs = 0;
    const double before = Now();
    const int64_t began = MonotonicNanos();
    if (!WriteAll(fd.get(), &byte, 1) || !ReadAll(fd.get(), &theirs, sizeof(theirs))) {
      return absl::UnavailableError("the connection broke");
    }
    const double trip = 1e-9 * static_cast<double>(MonotonicNanos() - began);
    if (trip >= least) continue;
    least = trip;
    offset = theirs - (before + trip / 2);
  }
  return absl::StrFormat("ping %.9f %.9f", least, offset);
}

absl::StatusOr<std::string> Send(const std::string& address, int port, const std::string& word, double seconds) {
  ASSIGN_OR_RETURN(const UniqueFd fd, Dial(address, port, word));
  const std::string piece(kPiece, 'x');
  if (!WriteAll(fd.get(), &kSendWord, 1) || !WriteAll(fd.get(), &seconds, sizeof(seconds))) {
    return absl::UnavailableError("the connection broke");
  }
  // Until the other end has seen enough, and says so.
  const int64_t until = MonotonicNanos() + static_cast<int64_t>(1e9 * (seconds + kSlowSend));
  pollfd one = {fd.get(), POLLIN | POLLOUT, 0};
  while (MonotonicNanos() < until) {
    if (poll(&one, 1, 10) == 0) continue;
    if ((one.revents & ~POLLOUT) != 0) break;
    if (send(fd.get(), piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT) <= 0 && errno != EAGAIN) {
      return absl::UnavailableError("the connection broke");
    }
  }
  const linger at_once = {1, 0};  // what has not gone out is of no use
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  double rate = 0;
  if (!ReadAll(fd.get(), &rate, sizeof(rate))) return absl::UnavailableError("the connection broke");
  return absl::StrFormat("send %.0f", rate);
}

absl::StatusOr<std::string> Do(const std::string& line, const std::string& word) {
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  int port = 0;
  double number = 0;
  if (words.size() != 4 || !absl::SimpleAtoi(words[2], &port) || !absl::SimpleAtod(words[3], &number)) {
    return absl::InvalidArgumentError("not understood");
  }
  if (words[0] == "ping") return Ping(words[1], port, word, static_cast<int>(number));
  if (words[0] == "send") return Send(words[1], port, word, number);
  return absl::InvalidArgumentError("not understood");
}

absl::StatusOr<int> Listen(const std::string& text, UniqueFd* fd) {
  ASSIGN_OR_RETURN(Address address, AddressOf(text, 0));
  fd->Reset(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (bind(fd->get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) != 0 ||
      listen(fd->get(), 64) != 0 ||
      getsockname(fd->get(), reinterpret_cast<sockaddr*>(&address.storage), &address.size) != 0) {
    return ErrnoStatus(errno, text);
  }
  return ntohs(address.storage.ss_family == AF_INET
                   ? reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port
                   : reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port);
}

// --- the one that asks them all

struct End {
  std::unique_ptr<Conversation> talk;
  int port = 0;
};

absl::StatusOr<End> StartEnd(const LinkHost& host, const Agent& agent, const std::string& word) {
  ChildOptions child;
  child.argv = agent.CommandOn(host.host, host.here, {host.program, "doctor", "--link", host.address});
  End end;
  ASSIGN_OR_RETURN(end.talk, Conversation::Start(child));
  RETURN_IF_ERROR(end.talk->Say(word));
  const absl::Time until = absl::Now() + kStart;
  // What a shell's start-up files print comes first.
  for (;;) {
    const absl::StatusOr<std::string> line = end.talk->Hear(until);
    if (!line.ok()) {
      return absl::FailedPreconditionError(absl::StrCat("host ", host.host, ": the links' test does not start there (",
                                                        host.program, " doctor --link ", host.address,
                                                        "): ", line.status().message()));
    }
    if (absl::StartsWith(*line, "port ") && absl::SimpleAtoi(line->substr(5), &end.port)) return end;
  }
}

// For so many numbers.
absl::StatusOr<std::vector<double>> Ask(End* end, const std::string& line, size_t count, absl::Duration longest) {
  if (end->talk == nullptr) return absl::UnavailableError("this end did not answer before");
  RETURN_IF_ERROR(end->talk->Say(line));
  const absl::StatusOr<std::string> heard = end->talk->Hear(absl::Now() + longest);
  if (!heard.ok()) end->talk.reset();  // what it says later would be taken for another answer
  RETURN_IF_ERROR(heard.status());
  const std::string& answer = *heard;
  const std::vector<std::string> words = absl::StrSplit(answer, ' ');
  if (words[0] == "failed") return absl::UnavailableError(answer.substr(std::min<size_t>(7, answer.size())));
  std::vector<double> numbers(words.size() - 1);
  for (size_t i = 1; i < words.size(); ++i) {
    if (!absl::SimpleAtod(words[i], &numbers[i - 1])) return absl::InternalError(answer);
  }
  if (numbers.size() != count) return absl::InternalError(answer);
  return numbers;
}

LinkFigures MeasureOneWay(size_t from, size_t to, const std::vector<LinkHost>& hosts, std::vector<End>* ends,
                          double seconds) {
  LinkFigures link;
  link.from = from;
  link.to = to;
  const std::string target = absl::StrCat(hosts[to].address, " ", ends->at(to).port, " ");
  const absl::StatusOr<std::vector<double>> ping =
      Ask(&ends->at(from), absl::StrCat("ping ", target, kPings), 2, kConnect + kSlack);
  link.status = ping.status();
  if (!ping.ok()) return link;
  link.latency_s = ping->at(0) / 2;
  link.clock_offset_s = ping->at(1);
  const absl::StatusOr<std::vector<double>> sent =
      Ask(&ends->at(from), absl::StrCat("send ", target, seconds), 1, absl::Seconds(seconds) + kSlack);
  link.status = sent.status();
  if (sent.ok()) link.bytes_per_s = sent->at(0);
  return link;
}

// The worse of both ways: a firewall stands on one side, and a switch may be slow in one direction.
LinkFigures MeasurePair(size_t from, size_t to, const std::vector<LinkHost>& hosts, std::vector<End>* ends,
                        double seconds) {
  const LinkFigures there = MeasureOneWay(from, to, hosts, ends, seconds);
  if (!there.status.ok()) return there;
  const LinkFigures back = MeasureOneWay(to, from, hosts, ends, seconds);
  return back.status.ok() && back.bytes_per_s > kDoubtful * there.bytes_per_s ? there : back;
}

}  // namespace

int ServeLinks(const std::string& address) {
  alarm(kLongest);
  UniqueFd listener(-1);
  const absl::StatusOr<int> port = Listen(address, &listener);
  if (!port.ok()) {
    std::cerr << "lockstep: " << port.status().message() << std::endl;
    return 1;
  }
  std::string word;
  if (!std::getline(std::cin, word) || word.empty()) return 1;
  std::thread([fd = listener.get(), word] {
    for (UniqueFd one; one.Reset(accept4(fd, nullptr, nullptr, SOCK_CLOEXEC)), one.get() >= 0;) {
      std::thread(Answer, std::move(one), word).detach();
    }
  }).detach();
  std::cout << "port " << *port << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const absl::StatusOr<std::string> answer = Do(line, word);
    std::cout << (answer.ok() ? *answer : absl::StrCat("failed ", answer.status().message())) << std::endl;
  }
  _exit(0);  // whatever its threads are at
}

std::vector<std::vector<std::pair<size_t, size_t>>> RoundsOfPairs(size_t count) {
  const size_t seats = count + count % 2;
  std::vector<std::vector<std::pair<size_t, size_t>>> rounds;
  for (size_t round = 0; round + 1 < seats; ++round) {
    auto& pairs = rounds.emplace_back();
    const auto at = [&](size_t seat) { return seat == 0 ? 0 : 1 + (seat - 1 + round) % (seats - 1); };
    for (size_t seat = 0; seat < seats / 2; ++seat) {
      const size_t a = at(seat), b = at(seats - 1 - seat);
      if (std::max(a, b) < count) pairs.emplace_back(std::min(a, b), std::max(a, b));
    }
  }
  return rounds;
}

absl::StatusOr<std::vector<LinkFigures>> MeasureLinks(const std::vector<LinkHost>& hosts, const Agent& agent,
                                                      absl::Duration budget) {
  ASSIGN_OR_RETURN(const std::string word, MakeToken());
  std::vector<absl::StatusOr<End>> starting(hosts.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < hosts.size(); ++i) {
    threads.emplace_back([&, i] { starting[i] = StartEnd(hosts[i], agent, word); });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<End> ends;
  for (absl::StatusOr<End>& end : starting) {
    RETURN_IF_ERROR(end.status());
    ends.push_back(*std::move(end));
  }
  const auto rounds = RoundsOfPairs(hosts.size());
  const double share = absl::ToDoubleSeconds(budget) / static_cast<double>(std::max<size_t>(1, rounds.size()));
  const double seconds = std::clamp(share / 2, kShortest, kSend);  // each way
  std::vector<LinkFigures> links;
  for (const auto& pairs : rounds) {
    std::vector<LinkFigures> round(pairs.size());
    std::vector<std::thread> at_once;
    for (size_t i = 0; i < pairs.size(); ++i) {
      at_once.emplace_back([&, i] { round[i] = MeasurePair(pairs[i].first, pairs[i].second, hosts, &ends, seconds); });
    }
    for (std::thread& thread : at_once) thread.join();
    links.insert(links.end(), round.begin(), round.end());
  }
  double best = 0;
  for (const LinkFigures& link : links) best = std::max(best, link.bytes_per_s);
  // One that seems slow may have met a busy moment: again, and by itself.
  for (LinkFigures& link : links) {
    if (!link.status.ok() || link.bytes_per_s > kDoubtful * best) continue;
    const LinkFigures again = MeasurePair(link.from, link.to, hosts, &ends, kSend);
    if (again.status.ok() && again.bytes_per_s > link.bytes_per_s) link = again;
  }
  std::sort(links.begin(), links.end(), [](const LinkFigures& a, const LinkFigures& b) {
    return std::minmax(a.from, a.to) < std::minmax(b.from, b.to);
  });
  return links;
}

}  // namespace lockstep
