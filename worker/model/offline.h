#pragma once

#include <istream>
#include <string>

namespace lockstep {

// What lockstep-worker does without MPI and without a coordinator, each for a subcommand of `lockstep`. They print
// their result on standard output, an error as one line on standard error, and return the process's exit code: 0; 2 for
// a bad config or input; 1 for anything else.

// {"torch": "1.13.1", "cuda": false, "cuda_devices": 0, "blas": "openblas", "warning": …}; the warning only if there is
// one.
int Probe();

// Of the model of a resolved config (YAML): {"parameters": 1863690, "grad_bytes": 7454760, "buffers": 0}, in elements
// and bytes. Parameters are those that are trained.
int Describe(std::istream& yaml);

// What a worker of a resolved config needs of memory, in bytes: {"parameters": 1863690, "process_bytes": …,
// "activation_bytes": …, "input_bytes": …, "address_bytes": …}; see MemoryNeeds, for the largest batch of a worker
// and those that are held ready.
int Needs(std::istream& yaml);

struct OfflineOptions {
  std::string checkpoint;     // folder of a checkpoint, or a link to it
  std::string config;         // the run's config.yaml
  std::string data;           // in place of the config's data.path; empty: that
  std::string split = "val";  // or validation, the same; or train
  bool json = false;
  std::string output;  // Predict: a file; empty: standard output
};

// "accuracy 0.9791, loss 0.0712 over 1000 samples (checkpoint step-00000330)", or as JSON
// {"checkpoint": …, "split": …, "samples": …, "metrics": {…}}.
int Evaluate(const OfflineOptions& options);

// One line a sample, in the order of the file. CSV with a header: `id,prediction,probability` for classes (cross
// entropy, or bce with one output), `id,value` or `id,value0,value1,…` for anything else (bce: probabilities). With
// json: an object a line with these names.
int Predict(const OfflineOptions& options);

}  // namespace lockstep
