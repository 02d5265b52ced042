#include "worker/comm/mpi_check.h"

#include <mpi.h>

#include "absl/strings/str_cat.h"

namespace lockstep {

absl::Status CheckMpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return absl::InternalError(absl::StrCat(call, ": ", absl::string_view(text, length)));
}

}  // namespace lockstep
