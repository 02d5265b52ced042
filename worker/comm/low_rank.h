#pragma once

#include <cstdint>

namespace lockstep {

// The arithmetic of PowerSGD on one matrix M, `columns` long rows one after the other. A factor of rank r is r arrays,
// one after the other: P's of one value a row, Q's of one a column. The work is cut by rows, so that a caller can do it
// in pieces: `m`, `gradients` and `p` begin at a piece's first row, and `p_rows` is how many values an array of P has.
//
// Plain IEEE arithmetic in a fixed order, without fused multiply-adds: the same bits on every host. Arrays do not
// overlap.

// M += gradients; P = M Q.
void AddAndProject(const float* gradients, int64_t rows, int64_t columns, const float* q, int rank, float* m, float* p,
                   int64_t p_rows);

// Q += Mᵀ P.
void ProjectBack(const float* m, int64_t rows, int64_t columns, const float* p, int64_t p_rows, int rank, float* q);

// gradients = P Qᵀ, M -= P own_Qᵀ.
void Rebuild(const float* p, int64_t p_rows, int64_t rows, int64_t columns, const float* q, const float* own_q,
             int rank, float* gradients, float* m);

// Makes the `rank` arrays of `rows` values orthonormal by modified Gram-Schmidt, each array gone through twice (Giraud,
// Langou and Rozložník 2005: twice is enough). One that those before it make up already becomes 0: what is left of it
// is rounding, and a direction would count twice. NaN and infinities make everything NaN.
void Orthonormalise(int64_t rows, int rank, float* p);

}  // namespace lockstep
