#include "engine/training/optimizers/low_rank.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace toolkit {
namespace {

/// One rotation that makes matrix[p][q] zero, of the matrix and of the vectors' rows.
void rotate(std::vector<double>& matrix, std::vector<double>& vectors, int64_t n, int64_t p,
            int64_t q) {
  const double off = matrix[p * n + q];
  if (off == 0) return;
  const double theta = (matrix[q * n + q] - matrix[p * n + p]) / (2 * off);
  const double sign = theta < 0 ? -1 : 1;
  const double t = sign / (std::fabs(theta) + std::sqrt(theta * theta + 1));
  const double c = 1 / std::sqrt(t * t + 1), s = t * c;
  for (int64_t k = 0; k < n; ++k) {
    const double a = matrix[k * n + p], b = matrix[k * n + q];
    matrix[k * n + p] = c * a - s * b;
    matrix[k * n + q] = s * a + c * b;
  }
  for (int64_t k = 0; k < n; ++k) {
    const double a = matrix[p * n + k], b = matrix[q * n + k];
    matrix[p * n + k] = c * a - s * b;
    matrix[q * n + k] = s * a + c * b;
    const double u = vectors[p * n + k], v = vectors[q * n + k];
    vectors[p * n + k] = c * u - s * v;
    vectors[q * n + k] = s * u + c * v;
  }
}

double off_diagonal(const std::vector<double>& matrix, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n * n; ++i) sum += i / n == i % n ? 0 : matrix[i] * matrix[i];
  return sum;
}

}  // namespace

std::vector<double> eigenvectors(std::vector<double>& matrix, int64_t n) {
  constexpr int kSweeps = 30;       // it takes about six
  constexpr double kSmall = 1e-30;  // of squares, relative
  std::vector<double> vectors(size_t(n * n), 0.0);
  double all = 0;
  for (int64_t i = 0; i < n; ++i) vectors[i * n + i] = 1;
  for (const double value : matrix) all += value * value;
  for (int sweep = 0; sweep < kSweeps && off_diagonal(matrix, n) > kSmall * all; ++sweep) {
    for (int64_t p = 0; p < n; ++p) {
      for (int64_t q = p + 1; q < n; ++q) rotate(matrix, vectors, n, p, q);
    }
  }
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return matrix[a * n + a] > matrix[b * n + b]; });
  std::vector<double> sorted;
  for (const int64_t row : order) {
    sorted.insert(sorted.end(), &vectors[row * n], &vectors[row * n] + n);
  }
  return sorted;
}

void compress(const float* m, int64_t small, int64_t wide, int64_t rank, float* basis,
              float* factor, double* row) {
  std::vector<double> product(size_t(small * small));
  for (int64_t i = 0; i < small; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < wide; ++k) sum += double(m[i * wide + k]) * m[j * wide + k];
      product[i * small + j] = product[j * small + i] = sum;
    }
  }
  const std::vector<double> vectors = eigenvectors(product, small);
  for (int64_t r = 0; r < rank; ++r) {
    std::fill(row, row + wide, 0.0);
    for (int64_t i = 0; i < small; ++i) {
      const double weight = vectors[r * small + i];
      basis[i * rank + r] = float(weight);
      for (int64_t k = 0; k < wide; ++k) row[k] += weight * m[i * wide + k];
    }
    for (int64_t k = 0; k < wide; ++k) factor[r * wide + k] = float(row[k]);
  }
}

void restore(const float* basis, const float* factor, int64_t small, int64_t wide, int64_t rank,
             float* m) {
  std::fill(m, m + small * wide, 0.0f);
  for (int64_t i = 0; i < small; ++i) {
    for (int64_t r = 0; r < rank; ++r) {
      const float weight = basis[i * rank + r];
      for (int64_t k = 0; k < wide; ++k) m[i * wide + k] += weight * factor[r * wide + k];
    }
  }
}

}  // namespace toolkit
