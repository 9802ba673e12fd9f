/* Times as the database stores them: UTC text with milliseconds. */
#include <string.h>

#include "handle.h"

/* The times that the stored form can say: years 0000 to 9999, in ms since 1970. */
static const int64_t first_ms = INT64_C(-62167219200000), last_ms = INT64_C(253402300799999);

int64_t in_range(int64_t ms) { return ms < first_ms ? first_ms : ms > last_ms ? last_ms : ms; }

/* `by` milliseconds after a time in range, in range; can't overflow. */
int64_t later(int64_t ms, int64_t by) { return in_range(by > last_ms - ms ? last_ms : ms + by); }

/* Civil date from days by the proleptic Gregorian calendar, in eras of 400 years that begin on 1 March. */
void format_time(int64_t any_ms, char into[TIME_BYTES + 1]) {
  int64_t ms = in_range(any_ms);
  int64_t days = ms / 86400000, rest = ms % 86400000;
  if (rest < 0) {
    rest += 86400000;
    days--;
  }
  days += 719468; /* from 0000-03-01 */
  int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  int64_t day_of_era = days - era * 146097;
  int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int64_t shifted_month = (5 * day_of_year + 2) / 153;
  int64_t day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
  int64_t month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  int64_t year = year_of_era + era * 400 + (month <= 2);
  const int64_t parts[] = {year / 100, year % 100, month, day, rest / 3600000, rest / 60000 % 60, rest / 1000 % 60};
  static const char layout[TIME_BYTES + 1] = "0000-00-00 00:00:00.000";
  static const int at[] = {0, 2, 5, 8, 11, 14, 17};
  memcpy(into, layout, TIME_BYTES + 1);
  for (int i = 0; i < 7; i++) {
    into[at[i]] = (char)('0' + parts[i] / 10 % 10);
    into[at[i] + 1] = (char)('0' + parts[i] % 10);
  }
  into[20] = (char)('0' + rest / 100 % 10);
  into[21] = (char)('0' + rest / 10 % 10);
  into[22] = (char)('0' + rest % 10);
}
