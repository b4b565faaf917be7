package dev.toolkit.trainer.ui

import android.Manifest
import android.content.Context
import android.os.Build
import android.view.View
import android.widget.Button
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.service.Reliability
import dev.toolkit.trainer.ui.Screen.Companion.visible

/**
 * What the user can do for nights that can be relied on, offered once there is a run to lose: notifications first, then
 * the exemption from battery optimisation. Each is offered until it is done or put away; Settings keep both.
 */
class Advice(private val screen: Screen, private val root: View = screen.window.decorView) {
    private class Offer(val name: String, val title: Int, val reason: Int, val follow: Int, val act: () -> Unit)

    private val reliability = Reliability(screen)
    private val preferences = screen.getSharedPreferences("screen", Context.MODE_PRIVATE)

    fun show(hasRuns: Boolean) {
        val offer = if (hasRuns) offers().firstOrNull { !preferences.getBoolean("no ${it.name}", false) } else null
        val card = root.requireViewById<View>(R.id.advice)
        card.visible(offer != null)
        if (offer == null) return
        card.requireViewById<TextView>(R.id.advice_title).setText(offer.title)
        card.requireViewById<TextView>(R.id.advice_reason).setText(offer.reason)
        card.requireViewById<Button>(R.id.advice_follow).apply {
            setText(offer.follow)
            setOnClickListener { offer.act() }
        }
        card.requireViewById<View>(R.id.advice_dismiss).setOnClickListener {
            preferences.edit().putBoolean("no ${offer.name}", true).apply()
            show(hasRuns)
        }
    }

    private fun offers() = ArrayList<Offer>().apply {
        if (!reliability.notified) {
            add(Offer("notifications", R.string.advice_notifications, R.string.advice_notifications_why, R.string.allow) { askForNotifications() })
        }
        if (!reliability.unrestricted) {
            add(Offer("nights", R.string.advice_nights, R.string.advice_nights_why, R.string.allow) { askForNights() })
        }
    }

    /** The system asks twice at most; after that only its settings help. */
    fun askForNotifications() {
        val asked = preferences.getBoolean("asked", false)
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU && reliability.needsPermission &&
            (!asked || screen.shouldShowRequestPermissionRationale(Manifest.permission.POST_NOTIFICATIONS))
        ) {
            preferences.edit().putBoolean("asked", true).apply()
            screen.requestPermissions(arrayOf(Manifest.permission.POST_NOTIFICATIONS), ASKED)
        } else {
            screen.openSettings(reliability.notificationSettings())
        }
    }

    /** The dialog comes once; whoever said no there finds the system's list. */
    fun askForNights() {
        val asked = preferences.getBoolean("asked for nights", false)
        preferences.edit().putBoolean("asked for nights", true).apply()
        screen.openSettings(if (asked) reliability.nightSettings() else reliability.askForNights())
    }

    private companion object {
        const val ASKED = 9
    }
}
