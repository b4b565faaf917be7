package dev.toolkit.trainer.ui

import android.app.AlertDialog
import android.app.TimePickerDialog
import android.content.Intent
import android.os.Build
import android.os.Bundle
import android.text.format.DateFormat
import android.view.View
import android.widget.Button
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.Switch
import dev.toolkit.trainer.R
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.policy.Hours
import dev.toolkit.trainer.policy.PolicySettings
import dev.toolkit.trainer.service.Reliability
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Everything
import org.json.JSONObject

/** When and how runs train. A change is kept at once. */
class SettingsActivity : Screen() {
    private var settings = PolicySettings()

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        show(R.layout.activity_settings, getString(R.string.settings), up = true)
        requireViewById<View>(R.id.introduction).setOnClickListener { startActivity(Intent(this, WelcomeActivity::class.java)) }
        settings = app.policy.read()
        asks(WIPE) { askToWipe() }
        showSwitches()
        showHours()
        slider(R.id.battery, R.id.battery_label, BATTERY_STEP, settings.minimumBattery, { batteryText(it) }) {
            change(settings.copy(minimumBattery = it))
        }
        slider(R.id.memory, R.id.memory_label, MEMORY_STEP, settings.minimumFreeMb, { memoryText(it) }) {
            change(settings.copy(minimumFreeMb = it))
        }
        showThermal()
        showThreads(null)
        requireViewById<View>(R.id.wipe).setOnClickListener { askToWipe() }
        text(R.id.about).text = getString(R.string.looking)
        // The engine may be a program that has to be started to say what it is.
        inBackground({ if (Engine.available) runCatching { Engine.info() }.getOrNull() else null }) { info ->
            showThreads(info)
            text(R.id.about).text = if (info == null) getString(R.string.no_engine) else about(info)
        }
    }

    /** The system's own pages may have changed these meanwhile. */
    override fun onStart() {
        super.onStart()
        val reliability = Reliability(this)
        val advice = Advice(this)
        text(R.id.notifications_state).setText(if (reliability.notified) R.string.nights_notifications_on else R.string.nights_notifications_off)
        requireViewById<View>(R.id.notifications_change).visible(!reliability.notified)
        requireViewById<View>(R.id.notifications_change).setOnClickListener { advice.askForNotifications() }
        text(R.id.nights_state).setText(if (reliability.unrestricted) R.string.nights_free else R.string.nights_restricted)
        requireViewById<View>(R.id.nights_change).visible(!reliability.unrestricted)
        requireViewById<View>(R.id.nights_change).setOnClickListener { advice.askForNights() }
        showKept()
        showLicences()
    }

    /** Of what this APK contains; a build without an engine of ours has none. */
    private fun showLicences() = inBackground({ assets.list(LICENCES).orEmpty().map { it.removeSuffix(TEXT) } }) { names ->
        requireViewById<View>(R.id.licences).visible(names.isNotEmpty())
        requireViewById<View>(R.id.licences).setOnClickListener {
            AlertDialog.Builder(this).setTitle(R.string.licences).setNegativeButton(R.string.close, null)
                .setItems(names.toTypedArray()) { _, index -> showLicence(names[index]) }.show()
        }
    }

    private fun showLicence(name: String) = inBackground({ assets.open("$LICENCES/$name$TEXT").bufferedReader().use { it.readText() } }) {
        AlertDialog.Builder(this).setTitle(name).setMessage(it).setNegativeButton(R.string.close, null).show()
    }

    private fun showKept() = inBackground({ Everything(app).count() }) { kept ->
        text(R.id.kept_all).text = words(kept)
        requireViewById<View>(R.id.wipe).isEnabled = !kept.isNothing
    }

    private fun words(kept: Everything.Kept) = getString(
        R.string.wipe_kept,
        resources.getQuantityString(R.plurals.runs_count, kept.runs, kept.runs),
        resources.getQuantityString(R.plurals.models_count, kept.models, kept.models),
        resources.getQuantityString(R.plurals.data_count, kept.data, kept.data), Numbers.bytes(kept.bytes),
    )

    private fun askToWipe(): Unit = inBackground({ Everything(app).count() }) { kept ->
        val active = app.controller.active
        if (active != null) tell(getString(R.string.wipe_active, active.name))
        else askToDelete(WIPE, "", getString(R.string.wipe_question), words(kept), getString(R.string.wipe_stays)) { wipe() }
    }

    private fun wipe() = inBackground({
        try {
            Everything(app).delete()
            getString(R.string.wipe_done)
        } catch (error: AppException) {
            error.message.orEmpty()
        }
    }) { words ->
        tell(words)
        showKept()
    }

    private fun change(to: PolicySettings) {
        if (to == settings) return
        settings = to
        app.policy.write(to)
        app.controller.recheck()
    }

    private fun showSwitches() {
        requireViewById<Switch>(R.id.only_charging).apply {
            isChecked = settings.onlyWhileCharging
            setOnCheckedChangeListener { _, on -> change(settings.copy(onlyWhileCharging = on)) }
        }
        requireViewById<Switch>(R.id.continue_after_restart).apply {
            isChecked = settings.continueAfterRestart
            setOnCheckedChangeListener { _, on -> change(settings.copy(continueAfterRestart = on)) }
        }
    }

    private fun showHours() {
        val hours = settings.hours
        requireViewById<Switch>(R.id.hours).apply {
            setOnCheckedChangeListener(null)
            isChecked = hours != null
            setOnCheckedChangeListener { _, on ->
                change(settings.copy(hours = if (on) NIGHT else null))
                showHours()
            }
        }
        requireViewById<View>(R.id.hours_bounds).visible(hours != null)
        if (hours == null) return
        bound(R.id.hours_from, R.string.hours_from, hours.from) { hours.copy(from = it) }
        bound(R.id.hours_to, R.string.hours_to, hours.to) { hours.copy(to = it) }
    }

    private fun bound(id: Int, label: Int, minute: Int, changed: (Int) -> Hours) = requireViewById<Button>(id).run {
        text = getString(label, Numbers.clock(context, minute))
        fun ask(about: String) {
            val pick = TimePickerDialog.OnTimeSetListener { _, hour, of ->
                change(settings.copy(hours = changed(hour * 60 + of)))
                showHours()
            }
            val question = TimePickerDialog(context, pick, minute / 60, minute % 60, DateFormat.is24HourFormat(context))
            question.show()
            keep(about, "", question)
        }
        val name = "hour $id"
        asks(name) { ask(name) }
        setOnClickListener { ask(name) }
    }

    private fun slider(id: Int, labelId: Int, step: Int, value: Int, label: (Int) -> String, onChange: (Int) -> Unit) {
        val say: (SeekBar, String) -> Unit = { bar, words ->
            text(labelId).text = words
            // Otherwise TalkBack reads the share of the slider's own range.
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) bar.stateDescription = words
        }
        requireViewById<SeekBar>(id).apply {
            progress = value / step
            say(this, label(value))
            setOnSeekBarChangeListener(object : SeekBar.OnSeekBarChangeListener {
                override fun onProgressChanged(bar: SeekBar, progress: Int, fromUser: Boolean) {
                    say(bar, label(progress * step))
                    onChange(progress * step)
                }

                override fun onStartTrackingTouch(bar: SeekBar) = Unit

                override fun onStopTrackingTouch(bar: SeekBar) = Unit
            })
        }
    }

    private fun batteryText(level: Int): String =
        getString(R.string.minimum_battery, if (level == 0) getString(R.string.off) else getString(R.string.percent, level))

    private fun memoryText(mib: Int): String =
        getString(R.string.minimum_memory, if (mib == 0) getString(R.string.off) else Numbers.bytes(mib * 1_000_000L))

    private fun showThermal() {
        val limits = listOf(PolicySettings.THERMAL_MODERATE, PolicySettings.THERMAL_SEVERE, 0)
        val labels = listOf(R.string.thermal_moderate, R.string.thermal_severe, R.string.thermal_off).map { getString(it) }
        val spinner = requireViewById<Spinner>(R.id.thermal)
        spinner.fill(labels, limits.indexOf(settings.thermalLimit)) { change(settings.copy(thermalLimit = limits[it])) }
        val supported = Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q
        spinner.isEnabled = supported
        requireViewById<View>(R.id.thermal_unsupported).visible(!supported)
    }

    private fun showThreads(info: JSONObject?) {
        val cores = info?.optInt("cores") ?: Runtime.getRuntime().availableProcessors()
        val automatic = info?.let { getString(R.string.threads_automatic_count, it.optInt("threads")) } ?: getString(R.string.threads_automatic)
        val labels = listOf(automatic) + (1..cores).map { Numbers.count(it.toLong()) }
        requireViewById<Spinner>(R.id.threads).fill(labels, settings.threads) { change(settings.copy(threads = it)) }
    }

    private fun about(info: JSONObject): String =
        getString(
            R.string.about_engine, packageManager.getPackageInfo(packageName, 0).versionName, info.optString("version"), info.optString("abi"), info.optString("isa"), info.optInt("cores"),
            Numbers.count(info.optLong("page_size") / 1024) + " KiB", getString(if (Engine.isChild) R.string.engine_child else R.string.engine_in_app),
        )

    private companion object {
        const val WIPE = "wipe"
        const val LICENCES = "licences"
        const val TEXT = ".txt"
        val NIGHT = Hours(23 * 60, 7 * 60)
        const val BATTERY_STEP = 5
        const val MEMORY_STEP = 100
    }
}
