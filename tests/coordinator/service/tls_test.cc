// Beyond loopback: who gets in, at the addresses that are really bound.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/stable_random.h"
#include "coordinator/launch/authority.h"
#include "coordinator/service/server.h"
#include "lockstep/control.grpc.pb.h"
#include "tests/coordinator/service/service_testing.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

constexpr char kToken[] = "the-runs-token";

int PortOf(const std::string& address) {
  int port = 0;
  EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port)) << address;
  return port;
}

// A connection as anybody can make it; -1: none to be had.
int Dial(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd >= 0 && connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

// Of this process, in use and not given back.
int64_t BytesInUse() { return static_cast<int64_t>(mallinfo2().uordblks); }

class TlsTest : public testing::Test {
 protected:
  TlsTest() : run_(*MakeRunCredentials(kToken)) {
    ServerOptions options = ServiceOptions(folder_ / "run", run_.coordinator);
    options.local_socket = folder_ / "sock";
    server_ = Start(std::move(options));
  }
  static std::unique_ptr<CoordinatorServer> Start(ServerOptions options) {
    EXPECT_TRUE(FileSystem::Real()->MakeFolders(options.run_folder).ok());
    auto server = CoordinatorServer::Start(std::move(options));
    EXPECT_TRUE(server.ok()) << server.status();
    return *std::move(server);
  }
  std::unique_ptr<CoordinatorServer> StartOther(const Credentials& credentials) {
    return Start(ServiceOptions(folder_ / "other", credentials));
  }

  // What GetRun says to somebody with these credentials, who connects to `address`.
  static grpc::Status Ask(const std::string& address, const Credentials& own, const std::string& token = kToken) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
    if (!own.authority.empty()) {
      grpc::SslCredentialsOptions tls;
      tls.pem_root_certs = own.authority;
      tls.pem_cert_chain = own.certificate;
      tls.pem_private_key = own.key;
      arguments.SetSslTargetNameOverride(own.coordinator_name);
      credentials = grpc::SslCredentials(tls);
    }
    const auto stub = Coordinator::NewStub(grpc::CreateCustomChannel(address, credentials, arguments));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    if (!token.empty()) context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
    GetRunReply reply;
    return stub->GetRun(&context, GetRunRequest(), &reply);
  }
  void ExpectItAnswers() {
    const grpc::Status status = Ask(server_->address(), run_.worker);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }

  TempFolder folder_;
  const RunCredentials run_;
  std::unique_ptr<CoordinatorServer> server_;
};

TEST_F(TlsTest, TheRunsOwnWorkersGetInWithTheTokenAlone) {
  ExpectItAnswers();
  for (const char* token : {"", "another", "the-runs-token "}) {
    EXPECT_EQ(Ask(server_->address(), run_.worker, token).error_code(), grpc::StatusCode::UNAUTHENTICATED) << token;
  }
}

TEST_F(TlsTest, NobodyElseGetsAWord) {
  const RunCredentials other = *MakeRunCredentials(kToken);
  Credentials no_certificate = run_.worker, replayed = run_.worker, forged = other.worker;
  no_certificate.certificate = no_certificate.key = "";
  replayed.certificate = other.worker.certificate;  // another run's, of the same token
  replayed.key = other.worker.key;
  forged.authority = run_.worker.authority;  // trusts the coordinator, and is not trusted
  for (const Credentials& one : {Credentials(), no_certificate, replayed, forged, other.worker}) {
    EXPECT_EQ(Ask(server_->address(), one).error_code(), grpc::StatusCode::UNAVAILABLE);
  }
  ExpectItAnswers();
}

TEST_F(TlsTest, AWorkerDoesNotTalkToAnotherCoordinator) {
  const auto other = StartOther(MakeRunCredentials(kToken)->coordinator);
  EXPECT_EQ(Ask(other->address(), run_.worker).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(TlsTest, CertificatesThatHaveExpiredAreWorthNothing) {
  const RunCredentials expired = *MakeRunCredentials(kToken, absl::Now() - absl::Hours(24 * 3700));
  const auto old = StartOther(expired.coordinator);
  EXPECT_EQ(Ask(old->address(), expired.worker).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(TlsTest, TheUsersOwnCommandsComeByTheLocalSocketWithTheToken) {
  EXPECT_EQ(server_->local_address(), absl::StrCat("unix:", folder_ / "sock"));
  EXPECT_TRUE(Ask(server_->local_address(), Credentials()).ok());
  EXPECT_EQ(Ask(server_->local_address(), Credentials(), "another").error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(TlsTest, GarbageIsNoCall) {
  StableRandom random(11);
  const int port = PortOf(server_->address());
  for (int turn = 0; turn < 200; ++turn) {
    const int fd = Dial(port);
    ASSERT_GE(fd, 0);
    std::string bytes(1 + random.Below(turn % 10 == 0 ? 1 << 20 : 2000), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.Below(256));
    // Every other one begins as a TLS handshake does.
    if (turn % 2 == 0)
      bytes.replace(0, std::min<size_t>(3, bytes.size()), std::string("\x16\x03\x01").substr(0, bytes.size()));
    for (size_t sent = 0; sent < bytes.size();) {
      const ssize_t n = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) break;  // it has hung up
      sent += static_cast<size_t>(n);
    }
    close(fd);
  }
  ExpectItAnswers();
}

// One who has all credentials, as a worker that went mad: every call with messages that are none, or nearly some.
class MadWorker {
 public:
  MadWorker(const std::string& address, const Credentials& own) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = own.authority;
    tls.pem_cert_chain = own.certificate;
    tls.pem_private_key = own.key;
    grpc::ChannelArguments arguments;
    arguments.SetSslTargetNameOverride(own.coordinator_name);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetMaxSendMessageSize(-1);
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateCustomChannel(address, grpc::SslCredentials(tls), arguments));
  }

  // Its end: within 20 seconds, or DEADLINE_EXCEEDED.
  grpc::Status Call(const std::string& method, const std::vector<std::string>& messages) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    context.AddMetadata("authorization", absl::StrCat("Bearer ", kToken));
    const auto call = stub_->PrepareCall(&context, absl::StrCat("/lockstep.Coordinator/", method), &queue_);
    call->StartCall(this);
    bool goes_on = Next();
    for (size_t i = 0; goes_on && i < messages.size(); ++i) {
      const grpc::Slice slice(messages[i]);
      call->Write(grpc::ByteBuffer(&slice, 1), this);
      goes_on = Next();
    }
    if (goes_on) {
      call->WritesDone(this);
      Next();
    }
    grpc::ByteBuffer answer;
    do call->Read(&answer, this);
    while (Next());
    grpc::Status status;
    call->Finish(&status, this);
    Next();
    return status;
  }

 private:
  bool Next() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::CompletionQueue queue_;
};

// What each call takes, as it should be; to be changed here and there.
std::string WellFormed(const std::string& method) {
  if (method == "Join") return GoodJoin(0, 2).SerializeAsString();
  if (method == "Attend") {
    WorkerMessage message;
    message.set_rank(1);
    message.set_incarnation(1);
    *message.mutable_reports()->add_steps() = SmallRecord(3);
    return message.SerializeAsString();
  }
  CheckpointChunk chunk;
  chunk.mutable_header()->set_incarnation(1);
  chunk.mutable_header()->add_files()->set_name("model.safetensors");
  return chunk.SerializeAsString();
}

TEST_F(TlsTest, MessagesThatAreNoneHarmNothing) {
  StableRandom random(12);
  MadWorker mad(server_->address(), run_.worker);
  const auto garbage = [&](std::string bytes, int changes) {
    for (int i = 0; i < changes && !bytes.empty(); ++i) {
      bytes[random.Below(bytes.size())] = static_cast<char>(random.Below(256));
    }
    bytes.resize(bytes.size() - random.Below(bytes.size() / 4 + 1));
    return bytes;
  };
  int refused = 0, calls = 0;
  for (int turn = 0; turn < 100; ++turn) {
    for (const char* method : {"GetRun", "Join", "Attend", "UploadCheckpoint", "DownloadCheckpoint", "GetStatus"}) {
      std::vector<std::string> messages;
      for (uint64_t i = 0; i <= random.Below(4); ++i) {
        messages.push_back(turn % 2 == 0 ? garbage(std::string(1 + random.Below(500), 'x'), 500)
                                         : garbage(WellFormed(method), 1 + static_cast<int>(random.Below(4))));
      }
      const grpc::Status status = mad.Call(method, messages);
      EXPECT_NE(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED) << method;
      EXPECT_NE(status.error_code(), grpc::StatusCode::UNAVAILABLE) << method << ": " << status.error_message();
      refused += status.ok() ? 0 : 1;
      ++calls;
    }
  }
  EXPECT_GT(refused, calls / 3);
  EXPECT_EQ(mad.Call("Join", {std::string((4 << 20) + 1000, 'x')}).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(mad.Call("NoSuchCall", {""}).error_code(), grpc::StatusCode::UNIMPLEMENTED);
  ExpectItAnswers();
}

TEST_F(TlsTest, ConnectionsThatSayNothingOrLittleKeepNobodyOut) {
  const int port = PortOf(server_->address());
  std::vector<int> slow;
  for (int i = 0; i < 200; ++i) {
    slow.push_back(Dial(port));
    ASSERT_GE(slow.back(), 0);
    if (i % 2 == 0) send(slow.back(), "\x16", 1, MSG_NOSIGNAL);
  }
  ExpectItAnswers();
  EXPECT_TRUE(Ask(server_->local_address(), Credentials()).ok());
  for (const int fd : slow) close(fd);
}

// As many as this process may have open, in turns: 10,000 in all.
TEST_F(TlsTest, TenThousandConnectionsLeaveNothingBehind) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const int port = PortOf(server_->address());
  const auto turn = [&](int count) {
    std::vector<int> open;
    for (int i = 0; i < count; ++i) open.push_back(Dial(port));
    for (const int fd : open) {
      EXPECT_GE(fd, 0);
      close(fd);
    }
  };
  const int at_once = static_cast<int>(std::min<rlim_t>(limit.rlim_cur / 4, 500));
  const auto turns = [&](int all) {
    for (int done = 0; done < all; done += at_once) turn(at_once);
    ExpectItAnswers();
    return BytesInUse();
  };
  // What is kept for the next connections is kept once.
  const int64_t before = turns(5000);
  int64_t after = turns(10000);
  // The last ones are still being let go.
  const absl::Time until = absl::Now() + absl::Seconds(10);
  while (after - before >= 4 << 20 && absl::Now() < until) {
    absl::SleepFor(absl::Milliseconds(20));
    after = BytesInUse();
  }
  EXPECT_LT(after - before, 4 << 20);
}

}  // namespace
}  // namespace lockstep
