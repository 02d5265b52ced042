#include "coordinator/service/server.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/periodic.h"
#include "common/base/status.h"
#include "coordinator/service/grpc_service.h"
#include "coordinator/service/launch.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"

namespace lockstep {
namespace {

constexpr int kMaxMessage = 4 << 20;
constexpr int kMaxMetadata = 16 << 10;
constexpr int kMaxStreams = 64;  // of one connection; a worker has three at most
constexpr char kHandshakeMillis[] = "grpc.server_handshake_timeout_ms";  // gRPC has no public name for it
constexpr absl::Duration kTick = absl::Milliseconds(100);
constexpr absl::Duration kShutdown = absl::Seconds(1);

class Server : public CoordinatorServer {
 public:
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerOptions options);
  ~Server() override;

  std::string address() const override { return address_; }
  std::string local_address() const override { return local_address_; }
  void AskToStop(const std::string& by, bool signal) override { core_->AskToStop(by, signal); }
  void Abort(const std::string& why) override { core_->Abort(why); }
  StatusReply Status(int64_t after_event) override { return core_->GetStatus(after_event); }
  bool WaitUntilEnded(absl::Duration timeout) override { return core_->WaitUntilEnded(timeout); }
  RunEnded ended() const override { return core_->ended(); }

 private:
  void MakeCore(const ServerOptions& options, Launch* launch);
  absl::Status Listen(const ServerOptions& options);

  std::unique_ptr<FolderLock> lock_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<Core> core_;
  std::unique_ptr<GrpcService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<PeriodicTask> ticker_;
  std::string address_, local_address_;
};

void Server::MakeCore(const ServerOptions& options, Launch* launch) {
  RecorderOptions recorder;
  recorder.world = options.world;
  recorder.incarnation = launch->started.incarnation();
  recorder.on_problem = [this](const std::string& what) { core_->Note(what); };
  recorder_ = std::make_unique<Recorder>(std::move(recorder), std::move(launch->db), std::move(launch->events));
  CoreOptions core;
  core.folder = options.run_folder;
  core.world = options.world;
  core.join_timeout = options.join_timeout;
  core.hosts_of_ranks = options.hosts_of_ranks;
  core.heartbeat = options.heartbeat;
  core.clock = options.clock;
  core.wake = [this] { ticker_->Poke(); };
  core_ =
      std::make_unique<Core>(std::move(core), std::move(launch->journal), std::move(launch->state), recorder_.get());
}

std::shared_ptr<grpc::ServerCredentials> CredentialsFor(const Credentials& own) {
  if (!own.tls()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions tls(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  tls.pem_root_certs = own.authority;
  tls.pem_key_cert_pairs = {{own.key, own.certificate}};
  return grpc::SslServerCredentials(tls);
}

absl::Status Server::Listen(const ServerOptions& options) {
  const std::string& listen = options.listen;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(listen, CredentialsFor(options.credentials), &port);
  const bool local = !options.local_socket.empty();
  if (local) {
    RETURN_IF_ERROR(FileSystem::Real()->RemoveAll(options.local_socket));
    builder.AddListeningPort(absl::StrCat("unix:", options.local_socket), grpc::InsecureServerCredentials());
  }
  builder.RegisterService(service_.get());
  builder.SetMaxReceiveMessageSize(kMaxMessage);
  builder.SetMaxSendMessageSize(kMaxMessage);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(kHandshakeMillis, 10000);  // for who connects and says nothing
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadata);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  // A host that is gone without a word is noticed even where nobody sends; and workers may ask likewise.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", listen,
                                               local ? absl::StrCat(" and ", options.local_socket) : "",
                                               ": is the port taken, or the host not this "
                                               "machine's?"));
  }
  address_ = absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
  local_address_ = local ? absl::StrCat("unix:", options.local_socket) : address_;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ServerOptions options) {
  if (options.credentials.token.empty()) return absl::InvalidArgumentError("a coordinator needs a token");
  ASSIGN_OR_RETURN(Launch launch, PrepareLaunch(options));
  auto server = std::make_unique<Server>();
  server->lock_ = std::move(launch.lock);
  server->MakeCore(options, &launch);
  server->ticker_ = std::make_unique<PeriodicTask>(kTick, [core = server->core_.get()] { core->Tick(); });
  for (const std::string& note : launch.notes) server->core_->Note(note);
  GrpcServiceOptions service;
  service.token = options.credentials.token;
  service.checkpoints_folder = JoinPath(options.run_folder, "checkpoints");
  service.incarnation = launch.started.incarnation();
  service.from = std::move(launch.from);
  service.files = options.files;
  service.clock = options.clock;
  server->service_ = std::make_unique<GrpcService>(std::move(service), server->core_.get());
  RETURN_IF_ERROR(server->Listen(options));
  RETURN_IF_ERROR(server->core_->Begin(std::move(launch.started)));
  return server;
}

Server::~Server() {
  ticker_->Stop();
  if (server_) {
    server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kShutdown));
    server_->Wait();
    server_.reset();
  }
  service_.reset();
  recorder_.reset();  // what it cannot write, it tells the core
}

}  // namespace

absl::StatusOr<std::unique_ptr<CoordinatorServer>> CoordinatorServer::Start(ServerOptions options) {
  ASSIGN_OR_RETURN(std::unique_ptr<Server> server, Server::Start(std::move(options)));
  return std::unique_ptr<CoordinatorServer>(std::move(server));
}

}  // namespace lockstep
