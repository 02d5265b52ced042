// An outside witness of communication, preloaded before the MPI library: when this process has an all-reduce or all-gather
// of MPI's own under way, as MPI's profiling interface sees it. Writes a line "begin end" for each such time, in seconds
// since 1970, to $PMPI_WITNESS.<rank>.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST = 4096 };
static MPI_Request under_way[MOST];
static int count;
static double since;
static FILE* file;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void told(double begin, double end) {
  const char* const name = getenv("PMPI_WITNESS");
  if (file == NULL && name != NULL) {
    int rank = 0;
    char path[4096];
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    snprintf(path, sizeof path, "%s.%d", name, rank);
    file = fopen(path, "w");
  }
  if (file != NULL) fprintf(file, "%.9f %.9f\n", begin, end);
}

static void begun(MPI_Request request, double start) {
  if (request == MPI_REQUEST_NULL || count == MOST) return;
  if (count == 0) since = start;
  under_way[count++] = request;
}

static void ended(MPI_Request request) {
  for (int i = 0; i < count; ++i) {
    if (under_way[i] != request) continue;
    under_way[i] = under_way[--count];
    if (count == 0) told(since, now());
    return;
  }
}

int MPI_Iallreduce(const void* from, void* to, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm, MPI_Request* request) {
  const double start = now();
  const int result = PMPI_Iallreduce(from, to, n, type, op, comm, request);
  begun(*request, start);
  return result;
}

int MPI_Iallgather(const void* from, int n, MPI_Datatype type, void* to, int m, MPI_Datatype other, MPI_Comm comm,
                   MPI_Request* request) {
  const double start = now();
  const int result = PMPI_Iallgather(from, n, type, to, m, other, comm, request);
  begun(*request, start);
  return result;
}

int MPI_Test(MPI_Request* request, int* flag, MPI_Status* status) {
  const MPI_Request before = *request;
  const int result = PMPI_Test(request, flag, status);
  if (*flag && before != MPI_REQUEST_NULL) ended(before);
  return result;
}

int MPI_Testall(int n, MPI_Request requests[], int* flag, MPI_Status statuses[]) {
  static MPI_Request before[MOST];
  const int kept = n < MOST ? n : MOST;
  for (int i = 0; i < kept; ++i) before[i] = requests[i];
  const int result = PMPI_Testall(n, requests, flag, statuses);
  for (int i = 0; *flag && i < kept; ++i) {
    if (before[i] != MPI_REQUEST_NULL) ended(before[i]);
  }
  return result;
}

int MPI_Finalize(void) {
  if (file != NULL) fclose(file);
  file = NULL;
  return PMPI_Finalize();
}
