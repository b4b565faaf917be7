// The best approximation of a wide matrix [small, wide] by one of a lower rank, from the
// eigenvectors of its product with itself: exact where `rank` is that of the matrix.
#pragma once

#include <cstdint>
#include <vector>

namespace toolkit {

// Eigenvectors of a symmetric matrix [n, n], those of the largest eigenvalues first, a row each; by
// Jacobi's rotations, in place, so that `matrix` is overwritten.
std::vector<double> eigenvectors(std::vector<double>& matrix, int64_t n);

// m ~ basis factor. `basis` [small, rank] has orthonormal columns, `factor` is [rank, wide]; `row`
// [wide] is computed with.
void compress(const float* m, int64_t small, int64_t wide, int64_t rank, float* basis,
              float* factor, double* row);
void restore(const float* basis, const float* factor, int64_t small, int64_t wide, int64_t rank,
             float* m);

}  // namespace toolkit
