#include "coordinator/launch/authority.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr char kCoordinatorName[] = "coordinator.lockstep";
constexpr char kWorkerName[] = "worker.lockstep";
constexpr int kValidFromDays = -30, kValidToDays = 3650;
constexpr int64_t kMaxPem = 1 << 20;

template <typename T, void (*kFree)(T*)>
struct Free {
  void operator()(T* object) const { kFree(object); }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY, EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509, X509_free>>;
using Store = std::unique_ptr<X509_STORE, Free<X509_STORE, X509_STORE_free>>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, Free<X509_STORE_CTX, X509_STORE_CTX_free>>;
struct FreeStack {
  void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }  // its certificates belong to others
};
using Stack = std::unique_ptr<STACK_OF(X509), FreeStack>;
struct FreeBio {
  void operator()(BIO* bio) const { BIO_free_all(bio); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

absl::Status OpenSslError(absl::string_view what) {
  char text[256] = "";
  ERR_error_string_n(ERR_get_error(), text, sizeof(text));
  return absl::InternalError(absl::StrCat(what, ": ", text));
}

std::string Content(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

struct Issued {
  Key key;
  Certificate certificate;
};

absl::Status AddExtension(X509* certificate, X509* issuer, int what, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str());
  const bool added = extension != nullptr && X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return added ? absl::OkStatus() : OpenSslError("making the run's certificates");
}

absl::Status SetRandomSerial(X509* certificate) {
  unsigned char bytes[8];
  uint64_t serial = 0;
  if (RAND_bytes(bytes, sizeof(bytes)) != 1) return OpenSslError("making the run's certificates");
  for (const unsigned char byte : bytes) serial = serial << 8 | byte;
  return ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1) == 1
             ? absl::OkStatus()
             : OpenSslError("making the run's certificates");
}

// Signed by `by`; null: by itself, as an authority.
absl::StatusOr<Issued> Issue(const char* name, const Issued* by, absl::Time now) {
  Issued issued;
  issued.key = Key(EVP_EC_gen("P-256"));
  issued.certificate = Certificate(X509_new());
  X509* const certificate = issued.certificate.get();
  if (issued.key == nullptr || certificate == nullptr) return OpenSslError("making the run's certificates");
  X509_set_version(certificate, 2);
  RETURN_IF_ERROR(SetRandomSerial(certificate));
  time_t from = absl::ToTimeT(now);
  X509_time_adj_ex(X509_getm_notBefore(certificate), kValidFromDays, 0, &from);
  X509_time_adj_ex(X509_getm_notAfter(certificate), kValidToDays, 0, &from);
  X509_set_pubkey(certificate, issued.key.get());
  X509_NAME* const subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
  X509* const issuer = by == nullptr ? certificate : by->certificate.get();
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
  if (by == nullptr) {
    RETURN_IF_ERROR(AddExtension(certificate, issuer, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
    RETURN_IF_ERROR(AddExtension(certificate, issuer, NID_key_usage, "critical,keyCertSign"));
  } else {
    RETURN_IF_ERROR(AddExtension(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE"));
    RETURN_IF_ERROR(AddExtension(certificate, issuer, NID_key_usage, "critical,digitalSignature"));
    RETURN_IF_ERROR(AddExtension(certificate, issuer, NID_ext_key_usage, "serverAuth,clientAuth"));
    RETURN_IF_ERROR(AddExtension(certificate, issuer, NID_subject_alt_name, absl::StrCat("DNS:", name)));
  }
  EVP_PKEY* const signer = by == nullptr ? issued.key.get() : by->key.get();
  if (X509_sign(certificate, signer, EVP_sha256()) == 0) return OpenSslError("signing the run's certificates");
  return issued;
}

absl::StatusOr<std::string> PemOf(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(bio.get(), certificate) != 1) return OpenSslError("writing a certificate");
  return Content(bio.get());
}

absl::StatusOr<std::string> PemOf(EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return OpenSslError("writing a key");
  }
  return Content(bio.get());
}

absl::StatusOr<Credentials> SideOf(const std::string& token, const char* name, const Issued& authority,
                                   absl::Time now) {
  ASSIGN_OR_RETURN(const Issued issued, Issue(name, &authority, now));
  Credentials side;
  side.token = token;
  side.coordinator_name = kCoordinatorName;
  ASSIGN_OR_RETURN(side.authority, PemOf(authority.certificate.get()));
  ASSIGN_OR_RETURN(side.certificate, PemOf(issued.certificate.get()));
  ASSIGN_OR_RETURN(side.key, PemOf(issued.key.get()));
  return side;
}

// --- people's own

Bio Memory(const std::string& text) { return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

absl::Status Wrong(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

// All that are in it, in order.
absl::StatusOr<std::vector<Certificate>> ReadCertificates(const std::string& path, const std::string& pem) {
  std::vector<Certificate> all;
  const Bio bio = Memory(pem);
  while (X509* const one = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) all.emplace_back(one);
  ERR_clear_error();  // that there are no more
  if (all.empty()) return Wrong(path, "holds no certificate in PEM");
  return all;
}

// `chain`: the certificate, and what is between it and an authority.
absl::Status CheckSigned(const std::string& path, const std::vector<Certificate>& chain,
                         const std::string& authority_path, const std::string& authority_pem) {
  ASSIGN_OR_RETURN(const std::vector<Certificate> authorities, ReadCertificates(authority_path, authority_pem));
  const Store store(X509_STORE_new());
  const StoreContext context(X509_STORE_CTX_new());
  const Stack between(sk_X509_new_null());
  for (const Certificate& one : authorities) X509_STORE_add_cert(store.get(), one.get());
  for (size_t i = 1; i < chain.size(); ++i) sk_X509_push(between.get(), chain[i].get());
  X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN);
  if (X509_STORE_CTX_init(context.get(), store.get(), chain[0].get(), between.get()) != 1) {
    return OpenSslError("checking a certificate");
  }
  if (X509_verify_cert(context.get()) == 1) return absl::OkStatus();
  const int error = X509_STORE_CTX_get_error(context.get());
  return Wrong(path, absl::StrCat("is not accepted by ", authority_path, ": ", X509_verify_cert_error_string(error)));
}

// Both the coordinator and the workers show it.
absl::Status CheckPurposes(const std::string& path, X509* certificate) {
  for (const int purpose : {X509_PURPOSE_SSL_SERVER, X509_PURPOSE_SSL_CLIENT}) {
    if (X509_check_purpose(certificate, purpose, 0) == 1) continue;
    return Wrong(path, "is not for servers and clients both; give one with serverAuth and clientAuth");
  }
  return absl::OkStatus();
}

// The first host that the certificate is for, by which the workers know the coordinator; empty: it has addresses alone,
// and the one that they call has to be among them.
absl::StatusOr<std::string> HostNamed(const std::string& path, X509* certificate) {
  auto* const names =
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  std::string host;
  bool any = false;
  for (int i = 0; names != nullptr && host.empty() && i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names, i);
    any = any || name->type == GEN_IPADD || name->type == GEN_DNS;
    if (name->type != GEN_DNS) continue;
    host.assign(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
  }
  GENERAL_NAMES_free(names);
  if (!any) return Wrong(path, "names no host; give one with a subjectAltName, as DNS:lockstep");
  return host;
}

}  // namespace

absl::StatusOr<RunCredentials> MakeRunCredentials(const std::string& token, absl::Time now) {
  ASSIGN_OR_RETURN(const Issued authority, Issue("lockstep run", nullptr, now));
  RunCredentials run;
  ASSIGN_OR_RETURN(run.coordinator, SideOf(token, kCoordinatorName, authority, now));
  ASSIGN_OR_RETURN(run.worker, SideOf(token, kWorkerName, authority, now));
  return run;
}

absl::StatusOr<RunCredentials> ReadOwnCredentials(const std::string& token, const std::string& certificate_path,
                                                  const std::string& key_path, const std::string& authority_path) {
  Credentials own;
  own.token = token;
  ASSIGN_OR_RETURN(own.certificate, FileSystem::Real()->Read(certificate_path, kMaxPem));
  ASSIGN_OR_RETURN(own.key, FileSystem::Real()->Read(key_path, kMaxPem));
  ASSIGN_OR_RETURN(own.authority, FileSystem::Real()->Read(authority_path, kMaxPem));
  ASSIGN_OR_RETURN(const std::vector<Certificate> chain, ReadCertificates(certificate_path, own.certificate));
  X509* const certificate = chain[0].get();
  // Nobody is asked for a password.
  const auto no_password = [](char*, int, int, void*) { return -1; };
  const Key key(PEM_read_bio_PrivateKey(Memory(own.key).get(), nullptr, no_password, nullptr));
  if (key == nullptr) return Wrong(key_path, "holds no private key in PEM, or one with a password");
  if (X509_check_private_key(certificate, key.get()) != 1) {
    return Wrong(key_path, absl::StrCat("is not the key of ", certificate_path));
  }
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
    return Wrong(certificate_path, "has expired");
  }
  RETURN_IF_ERROR(CheckSigned(certificate_path, chain, authority_path, own.authority));
  RETURN_IF_ERROR(CheckPurposes(certificate_path, certificate));
  ASSIGN_OR_RETURN(own.coordinator_name, HostNamed(certificate_path, certificate));
  return RunCredentials{own, own};
}

}  // namespace lockstep
